"""vLLM as the engine behind the server: the same API, keys and models; it alone holds the weights.

Everything but drawing tokens stays here: names, templates, bundles, tools, verdicts. The engine may
go away and come back: meanwhile its models answer 503, and adapters that it has lost are loaded
again. Entry point: `VllmHosts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import threading
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tunefork.core.errors import Busy, InputError, RemoteError, TuneforkError
from tunefork.data import Renderer
from tunefork.inference.engine import EngineStats, Request, Ticket, Usage
from tunefork.models import Base, find_base
from tunefork.serving.catalogue import Host, ServedModel
from tunefork.workflow.opened import renderer_of
from tunefork.workflow.service import Address
from tunefork.workflow.vllm_adapters import VllmAdapters, adapter_name, check_servable
from tunefork.workflow.vllm_answers import completion_body, note_usage, piece_of
from tunefork.workflow.vllm_client import Gone, Held, VllmClient

_FRESH_S = 2.0  # how long the engine is taken to be as it was
_MOST_REQUESTS = 1024  # at once; vLLM queues by itself
_LOOK_EVERY_S = 0.5  # whether anybody still waits
Result = TypeVar("Result")


@dataclass
class _State:
    """What was last seen of the engine."""

    held: tuple[Held, ...] = ()
    version: tuple[int, ...] = ()
    at_s: float = float("-inf")
    is_alive: bool = False


class VllmHosts:
    """The bases that one vLLM holds, for the server; see `served_bases.LoadedBases`."""

    def __init__(self, address: Address, bases: Mapping[str, str], most_adapters: int) -> None:
        """Begin without asking: the engine may be away.

        Args:
            address: The engine's.
            bases: What each base that is served stands for here.
            most_adapters: How many adapters it may hold at once.
        """
        self._bases = dict(bases)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        self._client, self._adapters = self._wait(_parts(address, most_adapters))
        self._state = _State()
        self._lock = threading.Lock()
        self._decoders: dict[str, _Decoder] = {}
        self._renderers: dict[tuple[str, datetime.date], Renderer] = {}

    def host(self, model: ServedModel) -> Host:
        """Return what a model stands on, its adapter made known.

        Raises:
            InputError: The engine cannot serve it.
            RemoteError: It is not there.
        """
        self._look()
        if model.folder is not None and model.adapter is not None:
            check_servable(model.folder)
        with self._lock:
            decoder = self._decoder(model)
            if model.folder is not None and model.adapter is not None:
                decoder.folders[model.adapter] = model.folder
            return self._host(decoder, model.date)

    def forget(self, model: ServedModel) -> None:
        """Let a model's adapter go."""
        if model.folder is not None and model.adapter is not None:
            with contextlib.suppress(TuneforkError, OSError):
                self._wait(self._adapters.forget(adapter_name(model.folder)))

    def all(self) -> list[Host]:
        """Return the bases that were asked for."""
        with contextlib.suppress(RemoteError):
            self._look()
        with self._lock:
            return [self._host(each, None) for each in self._decoders.values()]

    def close(self, drain_s: float) -> None:
        """Wait for answers that are under way, and end."""
        end = time.monotonic() + drain_s
        while any(each.running for each in self._decoders.values()) and time.monotonic() < end:
            time.sleep(0.05)
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _look(self) -> None:
        """See what the engine holds, unless that was seen a moment ago."""
        state = self._state
        if state.is_alive and time.monotonic() - state.at_s < _FRESH_S:
            return
        try:
            held = self._wait(self._client.held())
        except TuneforkError:
            state.is_alive = False
            self._adapters.doubt()
            raise
        if not state.is_alive:  # another one, perhaps
            state.version = self._wait(self._client.version())
            self._adapters.doubt()
        state.held, state.at_s, state.is_alive = tuple(held), time.monotonic(), True

    def _decoder(self, model: ServedModel) -> _Decoder:
        known = self._decoders.get(model.base)
        held = self._held(model)
        if known is None or known.held.id != held.id:
            known = self._decoders[model.base] = _Decoder(
                find_base(model.base), held, self._state, self._client, self._adapters, self._loop
            )
        return known

    def _held(self, model: ServedModel) -> Held:
        """Return the engine's own name for a base.

        Raises:
            InputError: It holds no such base.
        """
        bases = [each for each in self._state.held if each.parent is None]
        names = {name for name, base in self._bases.items() if base == model.base}
        names |= {Path(name).name for name in names}
        for each in bases:
            if names & {each.id, each.root, Path(each.root).name}:
                return each
        if names and len(set(self._bases.values())) == 1 and len(bases) == 1:
            return bases[0]
        raise InputError(
            f"the engine does not hold what `{model.id}` stands on; it holds "
            f"{', '.join(f'`{each.id}`' for each in bases) or 'nothing'}",
            hint="start one that does, or serve the model without `--engine`",
        )

    def _host(self, decoder: _Decoder, date: datetime.date | None) -> Host:
        base, day = decoder.base, date or datetime.date.today()
        renderer = self._renderers.get((base.address, day))
        if renderer is None:
            renderer = self._renderers[base.address, day] = renderer_of(base, day)
        lengths = [n for n in (base.max_length, decoder.held.max_length) if n is not None]
        return Host(base.address, base.hash(), decoder, renderer, min(lengths) if lengths else None)


async def _parts(address: Address, most: int) -> tuple[VllmClient, VllmAdapters]:
    client = VllmClient(address)
    return client, VllmAdapters(client, most)


class _Decoder:
    """Answers on one base of the engine's."""

    def __init__(
        self,
        base: Base,
        held: Held,
        state: _State,
        client: VllmClient,
        adapters: VllmAdapters,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.base, self.held, self.folders = base, held, dict[str, Path]()
        self._state, self._client, self._adapters, self._loop = state, client, adapters, loop
        self._renderer = renderer_of(base, None)
        self.running = self.answers = self.failures = 0
        self._prompt_tokens = self._cached_tokens = self._completion_tokens = 0

    def submit(self, request: Request) -> Ticket:
        """Take a request on.

        Raises:
            Busy: Too many are under way.
            InputError: The engine cannot be asked for this.
        """
        if self.running >= _MOST_REQUESTS:
            raise Busy("too many requests are under way", retry_after_s=2.0)
        body = completion_body(request, self.held.id, self._renderer, self._state.version)
        ticket = Ticket(Usage(len(request.prompt)))
        self.running += 1
        asyncio.run_coroutine_threadsafe(self._answer(ticket, request, body), self._loop)
        return ticket

    def stats(self) -> EngineStats:
        """Return how it does, as far as it is seen from here."""
        return EngineStats(
            running=self.running,
            waiting=0,
            answers=self.answers,
            failures=self.failures,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            steps=0,
            tokens_per_second=0.0,
            prefix_bytes=0,
            adapters_known=len(self.folders),
            adapters_resident=self._adapters.n_resident,
            adapter_bytes=0,
            is_alive=self._state.is_alive,
            adapter_loads=self._adapters.loads,
            adapter_evictions=self._adapters.evictions,
        )

    async def _answer(self, ticket: Ticket, request: Request, body: dict[str, Any]) -> None:
        work = asyncio.ensure_future(self._write(ticket, request, body))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=_LOOK_EVERY_S)
                if ticket.is_cancelled:
                    work.cancel()
            if not work.cancelled():
                work.result()
                self.answers += 1
        except TuneforkError as error:
            self.failures += 1
            ticket.put(error)
        except Exception as error:  # noqa: BLE001  the boundary: its reader must not wait for ever
            self.failures += 1
            ticket.put(RemoteError(f"the engine's answer is odd: {error}", hint="see its log"))
        finally:
            self.running -= 1
            self._prompt_tokens += ticket.usage.prompt_tokens
            self._cached_tokens += ticket.usage.cached_tokens
            self._completion_tokens += ticket.usage.completion_tokens

    async def _write(self, ticket: Ticket, request: Request, body: dict[str, Any]) -> None:
        """Let the engine answer; once more where it has lost the adapter meanwhile."""
        for is_last in (False, True):
            try:
                if request.adapter is None:
                    await self._stream(ticket, request, body)
                    return
                folder = self.folders[request.adapter]
                name = await asyncio.to_thread(adapter_name, folder)
                async with self._adapters.using(name, folder):
                    await self._stream(ticket, request, {**body, "model": name})
                return
            except Gone:
                self._adapters.doubt()
                if is_last:
                    raise
            except RemoteError:
                self._state.is_alive = False  # looked at before the next request
                self._adapters.doubt()
                raise

    async def _stream(self, ticket: Ticket, request: Request, body: dict[str, Any]) -> None:
        last = None  # held back until the engine has said what the answer took
        async for chunk in self._client.complete(body):
            note_usage(chunk, ticket.usage)
            piece = piece_of(chunk, self._renderer, request.sampling.n_logprobs)
            if piece is None:
                continue
            if piece.ended is None:
                ticket.usage.completion_tokens += 1
                ticket.put(piece)
            else:
                last = piece
        if last is None:
            raise RemoteError("the engine broke its answer off", hint="ask again")
        ticket.put(last)
