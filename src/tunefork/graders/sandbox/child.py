"""The program that the sandbox starts: build the walls, then hand over to `loop`.

Run as a script by `backends`, with one argument in JSON: how to isolate, what to show, and
the limits. Standard library only, and it imports nothing of this package, which would load far
more than a grader needs.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any


def main(settings: dict[str, Any]) -> None:
    """Confine this process and serve; where that fails, say why in place of a greeting."""
    folder = os.path.dirname(os.path.abspath(__file__))
    serve = _functions(folder, "loop.py")["serve"]
    requests, replies = _own_channels()
    with (
        os.fdopen(requests, encoding="utf-8") as incoming,
        os.fdopen(replies, "w", encoding="utf-8") as outgoing,
    ):
        try:
            _confine(folder, settings)
        except OSError as error:
            outgoing.write(json.dumps({"refused": str(error)}) + "\n")
            return
        outgoing.write(json.dumps({"is_ready": True}) + "\n")
        outgoing.flush()
        sys.path.extend(settings["packages"])
        serve(incoming, outgoing)


def _own_channels() -> tuple[int, int]:
    """Keep standard input and output for ourselves; what a program prints goes nowhere."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for channel in (0, 1, 2):
        os.dup2(nowhere, channel)
    os.close(nowhere)
    return requests, replies


def _confine(folder: str, settings: dict[str, Any]) -> None:
    seccomp = _functions(folder, "seccomp.py")
    if sys.platform == "linux":
        namespaces = _functions(folder, "namespaces.py")
        if settings["isolation"] == "namespaces":
            namespaces["enter"](settings["visible"])
        else:
            namespaces["die_with_parent"]()
        namespaces["gain_nothing"]()
    _bound(settings["limits"])
    if sys.platform == "linux" and seccomp["is_known"]():
        seccomp["refuse_calls"]()


def _bound(limits: dict[str, int]) -> None:
    import resource

    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["n_open_files"],
        resource.RLIMIT_NPROC: 1,  # itself
        resource.RLIMIT_AS: limits["memory_bytes"],
    }
    for bound, value in bounds.items():
        _, most = resource.getrlimit(bound)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(bound, (value, value))


def _functions(folder: str, name: str) -> dict[str, Any]:
    return runpy.run_path(os.path.join(folder, name))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
