"""What the base makes of each row: computed once, before anything is attached to it, and kept.

So no second model is in memory and no step of training computes it, whatever the strategy. What is
kept lies in `$TUNEFORK_HOME/cache/reference/KEY`, one file per block of rows, each behind its hash;
another base, other rows, code, machine or number of threads have another key. A computation that
was killed goes on after its last whole block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunefork.core.errors import RunError
from tunefork.core.events import Progress, Sink, Warned
from tunefork.core.files import cache_folder, new_file
from tunefork.core.hashing import hash_file, hash_json
from tunefork.data import Items
from tunefork.data.items import Column
from tunefork.models import collate, pack
from tunefork.models.log_probs import row_log_probs
from tunefork.objectives.protocol import REFERENCE

_BLOCK_TOKENS = 1 << 17  # a file's worth of rows: some seconds of a small model's work
_MICRO_TOKENS = 4096  # computed at once
_DIGEST_BYTES = 32


def with_reference(
    model: Any, items: Items, identity: Mapping[str, object], what: str, sink: Sink
) -> Items:
    """Return the items with the base's log-probability of each row as the column `REFERENCE`.

    Args:
        model: The base alone, before a strategy is attached to it.
        items: What to compute it of.
        identity: What tells this base from others, as plain data.
        what: What the rows are called while it goes on.
        sink: Told how far it is.
    """
    folder = cache_folder() / "reference" / _key(model, items, identity)
    column = np.empty(len(items.rows), np.float32)
    blocks = list(_blocks(items))
    for number, (first, end) in enumerate(blocks):
        rows = slice(int(items.starts[first]), int(items.starts[end]))
        path = folder / f"{number:06d}"
        kept = _read(path, rows.stop - rows.start)
        if kept is None:
            kept = _compute(model, items, range(first, end))
            _write(path, kept, sink)
        column[rows] = kept
        sink(Progress(f"the base's view of {what}", end, len(items)))
    return items.with_column(REFERENCE, column)


def _compute(model: Any, items: Items, chosen: range) -> Column:
    """Return the log-probabilities of the rows of some items that follow each other."""
    begin = int(items.starts[chosen.start])
    found = np.empty(int(items.starts[chosen.stop]) - begin, np.float32)
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        for packed in pack(items, chosen, _MICRO_TOKENS):
            sums = row_log_probs(model, collate(items, packed, device)).sums
            found[items.rows_of(packed) - begin] = sums.cpu().numpy()
    return found


def _blocks(items: Items) -> Iterator[tuple[int, int]]:
    """Yield the first item of each block and the one behind its last."""
    filled = np.cumsum(items.lengths) // _BLOCK_TOKENS
    cuts = (np.flatnonzero(np.diff(filled)) + 1).tolist()
    yield from zip([0, *cuts], [*cuts, len(items)], strict=True)


def _key(model: Any, items: Items, identity: Mapping[str, object]) -> str:
    """Return a name for all that decides the bits of the result."""
    weight = next(model.parameters())
    code = sorted(Path(__file__).parents[1].glob("models/**/*.py"))
    found = hash_json(
        [
            dict(identity),
            items.rows.hash(),
            [str(weight.dtype), str(weight.device), torch.get_num_threads()],
            [version("torch"), version("transformers")],
            [hash_file(path) for path in code],
        ]
    )
    return found.removeprefix("sha256:")[:32]


def _read(path: Path, n_rows: int) -> Column | None:
    """Return a block, or None where there is none that can be used."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, values = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(values).digest() != digest or len(values) != 4 * n_rows:
        return None
    return np.frombuffer(values, "<f4").astype(np.float32)


def _write(path: Path, values: Column, sink: Sink) -> None:
    data = values.astype("<f4").tobytes()
    try:
        with new_file(path) as file:
            file.write(hashlib.sha256(data).digest() + data)
    except RunError as error:  # it can be computed again
        sink(Warned(f"cannot keep what the base makes of the rows: {error.message}"))
