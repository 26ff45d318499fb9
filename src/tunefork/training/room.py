"""When memory runs out: how that is known, what is let go, and how a step is cut smaller.

The rule: the step is redone from its beginning with the same rows, weights and seed, packed into
rows of at most half as many tokens. Gradients of a step add up, so the result is that of the same
step; the run keeps the smaller size. A single row that does not fit alone ends the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from tunefork.core.errors import RunError
from tunefork.core.events import Sink, Warned
from tunefork.data.items import Items
from tunefork.models.out_of_memory import is_out_of_memory, let_go
from tunefork.training.settings import TrainSettings


class NoRoom(Exception):
    """The memory does not hold what these rows need when they are computed together."""

    def __init__(self, chosen: Sequence[int]) -> None:
        super().__init__(f"no room for {len(chosen)} rows at once")
        self.chosen = tuple(chosen)


@contextlib.contextmanager
def room_for(chosen: Sequence[int]) -> Iterator[None]:
    """Compute with these rows; where memory runs out, let go of what the attempt held.

    Raises:
        NoRoom: Memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        let_go(error)
    else:
        return
    raise NoRoom(chosen)


def smaller(
    settings: TrainSettings,
    refused: NoRoom,
    items: Items,
    name: Callable[[int], str],
    sink: Sink,
) -> TrainSettings:
    """Return the settings with half as many tokens computed at once, or less.

    Raises:
        RunError: It was a single row already.
    """
    n_tokens = int(items.lengths[list(refused.chosen)].sum())
    if len(refused.chosen) == 1 or settings.micro_tokens == 1:
        longest = int(items.select(refused.chosen).rows.lengths.max())
        raise RunError(
            f"the memory does not hold {name(refused.chosen[0])}, which alone is "
            f"{n_tokens:,} tokens long",
            hint=f"set `training.max_length` below {longest}, or close other programs",
        )
    micro_tokens = settings.micro_tokens // 2
    while micro_tokens >= n_tokens:  # else these rows would be packed together again
        micro_tokens //= 2
    sink(
        Warned(
            f"memory ran out; going on with {micro_tokens:,} tokens computed at once instead of "
            f"{settings.micro_tokens:,} (slower, with the same result up to rounding)"
        )
    )
    return settings.model_copy(update={"micro_tokens": max(1, micro_tokens)})


@contextlib.contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn running out of memory, where nothing can be cut smaller, into one clear error."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"there is not enough memory for {what}",
            hint="close other programs, choose a smaller base, or `strategy: lora`",
        ) from error
