"""Ways to isolate a program on this machine, best first, and the command that starts each.

`namespaces`: our own, by system calls. `bubblewrap`: the same by the program `bwrap`, which
some systems allow where they refuse programs of users. `limits`: neither; the program is
bounded, and on Linux cannot open sockets or start processes, but it reads the user's files.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from tunefork.graders.sandbox.limits import Limits

Isolation = Literal["namespaces", "bubblewrap", "limits"]

# Nothing of the user's environment; a fixed hash seed, so that sets have one order.
ENVIRONMENT = {
    "HOME": "/",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}
# Set where programs are strangers': better none is run than one without walls.
WALLS_ONLY = "TUNEFORK_WALLS_ONLY"
_FOLDER = Path(__file__).resolve().parent
_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")


def available() -> list[Isolation]:
    """Return what may work here, best first; whether it does is seen when it is started."""
    found: list[Isolation] = []
    if sys.platform == "linux":
        found.append("namespaces")
        if shutil.which("bwrap"):
            found.append("bubblewrap")
    return found if os.environ.get(WALLS_ONLY) else [*found, "limits"]


def command(isolation: Isolation, limits: Limits) -> list[str]:
    """Return the command that starts the child under an isolation."""
    visible = _visible()
    settings = {
        "isolation": isolation,
        "visible": visible,
        "packages": _packages(),
        "limits": asdict(limits),
    }
    python = os.path.realpath(sys.executable)
    child = [python, "-S", "-s", str(_FOLDER / "child.py"), json.dumps(settings)]
    if isolation != "bubblewrap":
        return child
    shown = [
        path for name in (*visible, python, str(_FOLDER)) for path in ("--ro-bind", name, name)
    ]
    walls = ["--unshare-all", "--die-with-parent", "--new-session", "--dev", "/dev"]
    bwrap = shutil.which("bwrap") or "bwrap"
    return [bwrap, *walls, *shown, "--remount-ro", "/", "--chdir", "/", "--", *child]


def _visible() -> list[str]:
    """Return the folders and files that Python needs; those inside another come with it."""
    needed = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *_packages()]
    own = [path for path in needed if os.path.isdir(path)]
    paths = {*own, *(path for path in _SYSTEM_LIBRARIES if os.path.exists(path))}
    libraries = os.path.join(sys.base_prefix, "lib")  # where libpython lies
    if os.path.isdir(libraries):
        paths.add(libraries)
    inner = {path for path in paths if any(path.startswith(f"{other}/") for other in paths)}
    return sorted(paths - inner)


def _packages() -> list[str]:
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
