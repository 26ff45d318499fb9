"""Elementwise steps that a compiler may fuse into one pass, and run as they are where none is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")
_KERNELS: list[Kernel[..., object]] = []


class Kernel(Generic[_P, _R]):
    """A function of tensors without a gradient; `compile_kernels` makes all of them faster."""

    def __init__(self, steps: Callable[_P, _R]) -> None:
        self._steps = steps
        self._run = steps
        self.__doc__ = steps.__doc__
        _KERNELS.append(self)  # type: ignore[arg-type]

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run the function."""
        return self._run(*args, **kwargs)

    def compile(self) -> None:
        """Fuse the steps from the next call on."""
        self._run = torch.compile(self._steps, dynamic=True)

    def interpret(self) -> None:
        """Run step by step again."""
        self._run = self._steps


def compile_kernels() -> str | None:
    """Compile all kernels; return None, or why they run step by step instead."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        return "there is no C++ compiler"
    try:
        torch.compile(torch.sin, dynamic=True)(torch.ones(2))
    except Exception as error:  # noqa: BLE001  whatever ails the compiler, there is another way
        return f"the compiler fails: {str(error).splitlines()[0]}"
    for kernel in _KERNELS:
        kernel.compile()
    return None


def interpret_kernels() -> None:
    """Run all kernels step by step."""
    for kernel in _KERNELS:
        kernel.interpret()
