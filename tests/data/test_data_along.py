"""Numbers that travel along the tokens of rows: chosen, joined and hashed with them."""

from __future__ import annotations

import numpy as np
import pytest

from tunefork.data import Items, Rendered, TokenRows
from tunefork.models import collate

_ROWS = [[5, 6, 7], [8, 9], [5, 6, 7, 8]]


def _items(scale: float = 1.0) -> Items:
    rows = TokenRows.from_rendered(Rendered(ids, [0.0] + [1.0] * (len(ids) - 1)) for ids in _ROWS)
    items = Items(rows).with_column("row", np.arange(3, dtype=np.float32))
    return items.with_along("value", scale * np.arange(9, dtype=np.float32))


def test_they_follow_their_rows() -> None:
    chosen = _items().select([2, 0])
    assert chosen.along["value"].row(0)[1].tolist() == [5, 6, 7, 8]
    assert chosen.along["value"].row(1)[1].tolist() == [0, 1, 2]
    assert chosen.columns["row"].tolist() == [2, 0]


def test_where_a_set_lacks_them_they_are_zero() -> None:
    plain = Items(TokenRows.from_rendered([Rendered([1, 2], [0.0, 1.0])]))
    both = Items.concatenate([plain, _items()])
    assert both.along["value"].weights.tolist() == [0, 0, *range(9)]
    assert both.rows.row(1)[0].tolist() == _ROWS[0]


def test_the_hash_sees_them() -> None:
    assert _items().hash() == _items().hash()
    assert _items().hash() != _items(2.0).hash()
    other = _items().select([0, 1, 2]).with_along("other", np.ones(9, np.float32))
    assert _items().hash() != other.hash()


@pytest.mark.parametrize("shares", [True, False])
def test_a_batch_has_them_beside_its_targets(shares: bool) -> None:
    batch = collate(_items(), [1, 2, 0], shares=shares)
    assert batch.targets.tolist() == [9, 6, 7, 8, 6, 7]
    assert batch.along["value"].tolist() == [4, 6, 7, 8, 1, 2]
