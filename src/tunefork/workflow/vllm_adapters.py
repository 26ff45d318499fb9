"""Which adapters a vLLM holds for us: a bounded number, the least recently used leave for others.

An adapter's name there is made of its files' hash: a server that starts again finds those that are
there, and files that changed are another adapter. What is being answered with does not leave.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunefork.core.errors import InputError
from tunefork.core.files import read_json
from tunefork.core.hashing import hash_file, hash_json
from tunefork.workflow.vllm_client import VllmClient

_OURS = "tunefork-"
_CONFIG = "adapter_config.json"


def check_servable(folder: Path) -> None:
    """Refuse an adapter that vLLM would not load, or would serve as another one.

    Raises:
        InputError: It is no LoRA in PEFT's plain format.
    """
    config = read_json(folder / _CONFIG)
    kind = str(config.get("peft_type", "of a kind of its own"))
    lacks = {
        f"adapters that are {kind}": kind != "LORA",
        "DoRA": config.get("use_dora"),
        "heads (`modules_to_save`)": config.get("modules_to_save"),
        "ranks of their own for some layers": config.get("rank_pattern"),
        "alphas of their own for some layers": config.get("alpha_pattern"),
        "trained biases": config.get("bias", "none") != "none",
    }
    found = [what for what, is_there in lacks.items() if is_there]
    if found:
        raise InputError(
            f"this engine serves LoRA alone, and not {' or '.join(found)}",
            hint="merge it into its base (`docs/strategies.md`) and serve that as a base, or serve "
            "it without `--engine`",
        )


def adapter_name(folder: Path) -> str:
    """Return what an adapter is called there."""
    files = (folder / _CONFIG, *sorted(folder.glob("*.safetensors")))
    return _name(tuple((str(path), path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=4096)
def _name(files: tuple[tuple[str, int], ...]) -> str:
    digest = hash_json([hash_file(Path(path)) for path, _ in files])
    return _OURS + digest.removeprefix("sha256:")[:24]


class VllmAdapters:
    """Keeps count of them; on one event loop."""

    def __init__(self, client: VllmClient, most: int) -> None:
        self._client = client
        self._most = most
        self._uses: dict[str, int] = {}  # of those that are there; the least recently used first
        self._changes = asyncio.Condition()
        self._is_known = False
        self.loads = self.evictions = 0

    @property
    def n_resident(self) -> int:
        """How many are there."""
        return len(self._uses)

    def doubt(self) -> None:
        """Look anew at what is there: the engine was away, and may have begun anew."""
        self._is_known = False

    @contextlib.asynccontextmanager
    async def using(self, name: str, folder: Path) -> AsyncIterator[None]:
        """Hold an adapter there, loaded if need be, for as long as it is answered with.

        Raises:
            InputError: The engine refuses it.
            RemoteError: The engine is not there.
        """
        if not self._is_known or name not in self._uses:  # else nothing has to be waited for
            await self._load(name, folder)
        self._uses[name] = self._uses.pop(name, 0) + 1
        try:
            yield
        finally:
            if self._uses.get(name, 0) > 0:
                self._uses[name] -= 1
            async with self._changes:
                self._changes.notify_all()

    async def forget(self, name: str) -> None:
        """Let an adapter go that nobody is to be answered with any more."""
        async with self._changes:
            if self._uses.get(name) == 0:
                await self._client.unload(name)
                self._uses.pop(name, None)

    async def _load(self, name: str, folder: Path) -> None:
        async with self._changes:
            if not self._is_known:
                await self._look()
            if name not in self._uses:
                await self._changes.wait_for(self._has_room)
            if name not in self._uses:
                await self._make_room()
                await self._client.load(name, folder)
                self.loads += 1
                self._uses[name] = 0

    async def _look(self) -> None:
        there = {each.id for each in await self._client.held() if each.id.startswith(_OURS)}
        known: dict[str, Any] = {name: n for name, n in self._uses.items() if name in there}
        self._uses = known | {name: 0 for name in there if name not in known}
        self._is_known = True

    def _has_room(self) -> bool:
        return len(self._uses) < self._most or 0 in self._uses.values()

    async def _make_room(self) -> None:
        while len(self._uses) >= self._most:
            oldest = next((name for name, n in self._uses.items() if n == 0), None)
            if oldest is None:
                return
            self._uses.pop(oldest)  # first: nobody is to begin with it meanwhile
            await self._client.unload(oldest)
            self.evictions += 1
