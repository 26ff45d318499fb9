"""Learned prefixes: keys and values that stand before every document of an adapter.

Prefix tuning (Li & Liang 2021, arXiv 2101.00190) trains them; nothing else of the model knows. A
model carries its prefixes in `Roots`; where it is run over a layout, the layout puts each document
behind the prefix of its adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from tunefork.models.layout import Layout

_NAME = "learned_prefixes"  # what the module is called in a model
States = tuple[torch.Tensor, torch.Tensor]  # keys and values, each (n, key heads, head size)


class Root(Protocol):
    """One learned prefix; a module whose parameters it is made of."""

    n_tokens: int  # how many places it takes
    is_enabled: bool  # switched off, it is not there

    def states(self) -> Sequence[States]:
        """Return its keys and values in each layer, made anew from what is trained."""
        ...


class Roots(nn.Module):
    """The learned prefixes of a model, by the number of their adapter."""

    def __init__(self) -> None:
        super().__init__()
        self._roots = nn.ModuleDict()

    def put(self, number: int, root: Root) -> None:
        """Let the documents of an adapter begin with a prefix."""
        self._roots[str(number)] = cast(nn.Module, root)

    def take(self, number: int) -> None:
        """Let them begin with nothing again."""
        del self._roots[str(number)]

    def active(self, number: int) -> Root | None:
        """Return the prefix of an adapter, or None where it has none or it is switched off."""
        key = str(number)
        root = cast(Root, self._roots[key]) if key in self._roots else None
        return root if root is not None and root.is_enabled else None


def roots_of(model: Any) -> Roots:
    """Return a model's prefixes; where it has none so far, it is given an empty set."""
    if not hasattr(model, _NAME):
        model.add_module(_NAME, Roots())
    roots: Roots = getattr(model, _NAME)
    return roots


def prefix_length(model: Any, adapter: int) -> int:
    """Return how many positions an adapter's learned prefix takes from each document."""
    root = roots_of(model).active(adapter) if hasattr(model, _NAME) else None
    return 0 if root is None else root.n_tokens


def behind_prefixes(model: Any, layout: Layout) -> Layout:
    """Return the layout with each document behind the model's prefix for its adapter."""
    return layout.behind(roots_of(model)) if hasattr(model, _NAME) else layout
