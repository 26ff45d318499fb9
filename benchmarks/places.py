"""Where things lie: results in the checkout, everything else under `$TUNEFORK_HOME/benchmarks`."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunefork.core.files import home, write_json, write_text

CHECKOUT = Path(__file__).parents[1]
LENGTHS = Path(__file__).parent / "lengths.json"
RESULTS = Path(__file__).parent / "results"


def state() -> Path:
    """Return the folder of models, finished cells and the peers' environment."""
    return home() / "benchmarks"


def work_folder(name: str, *, is_resumed: bool) -> Path:
    """Return a new folder for what a benchmark makes on its way, or the newest one there is."""
    work = state() / "work"
    earlier = sorted(work.glob(f"{name}-[0-9]*"))
    if is_resumed and earlier:
        return earlier[-1]
    return work / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def peers_python() -> Path:
    """Return the interpreter of the environment that `make bench` installs the peers into."""
    folder = "Scripts" if sys.platform == "win32" else "bin"
    return state() / "peers" / folder / "python"


def publish(name: str, record: Mapping[str, Any], page: str, out: Path, *, as_json: bool) -> None:
    """Write a measurement's record and page to the folder `out`, and print one of them."""
    write_json(out / f"{name}.json", record)
    write_text(out / f"{name}.md", page)
    print(json.dumps(record) if as_json else page)
