"""The life cycle from first check to answer: `python -m tests.offline.life_cycle FOLDER [--job]`.

A program of its own, so that it can run where the system has no network but loopback. It prints
one JSON object: what each stage gave, and how often the kernel found no way out.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import httpx2

from tests.cli.command import call
from tests.projects import few_requests, rows, small_probe, write_project
from tests.serving.fakes import live
from tests.small import save_model
from tunefork.core.events import no_sink
from tunefork.workflow import abilities
from tunefork.workflow import run as run_module
from tunefork.workflow.serve import ServeSettings, serving

_ELSEWHERE = "192.0.2.1"  # kept for examples: nobody's address
_PATIENCE_S = 240.0
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def open_loopback() -> None:
    """Bring loopback up; in a network of one's own it is down at first."""
    with socket.socket() as any_socket:
        name = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, name), 16)[0]
        if not flags & _IFF_UP:
            up = struct.pack("16sH14x", b"lo", flags | _IFF_UP)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, up)


def no_routes() -> int:
    """Return how often the kernel was asked for a way out and had none, whoever asked."""
    head, values = [
        line.split()
        for line in Path("/proc/net/snmp").read_text(encoding="utf-8").splitlines()
        if line.startswith("Ip:")
    ]
    six = dict(
        line.split() for line in Path("/proc/net/snmp6").read_text(encoding="utf-8").splitlines()
    )
    four = dict(zip(head, values, strict=True))
    return int(four["OutNoRoutes"]) + int(six.get("Ip6OutNoRoutes", 0))


def live_through(folder: Path, with_job: bool) -> dict[str, Any]:
    """Check, run, promote, serve, ask; with a job of the server's own where it is wanted."""
    base = save_model("llama", folder / "base")
    spec = write_project(folder / "project", base)
    found: dict[str, Any] = {}
    with (
        mock.patch.object(abilities, "load_safety", few_requests),
        mock.patch.object(run_module, "general_probe", small_probe),
    ):
        checked = call("check", folder / "project" / "train.jsonl", "--json")
        found["checked"] = checked.json["rows"]
        ran = call("run", spec, "--json")
    found["verdict"] = ran.json["verdict"]
    promoted = call("promote", ran.json["model"], "best", "--force", "to see it", "--json")
    found["promoted"] = promoted.json["alias"]
    with (
        serving(ServeSettings(bases=(str(base),)), no_sink) as app,
        live(app) as url,
        httpx2.Client(base_url=url, timeout=_PATIENCE_S, trust_env=False) as web,
    ):
        found["answered"] = _ask(web, "best")
        if with_job:
            found["job"] = _tune(web, str(base))
    return found


def _ask(web: httpx2.Client, model: str) -> int:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "who is cat?"}],
        "max_tokens": 5,
        "logit_bias": {"2": -100},  # no early end
    }
    found = web.post("/chat/completions", json=body).json()
    return int(found["usage"]["completion_tokens"])


def _tune(web: httpx2.Client, base: str) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows(24))
    parts = {"file": ("rows.jsonl", text.encode())}
    file = web.post("/files", files=parts, data={"purpose": "fine-tune"}).json()["id"]
    job = web.post("/fine_tuning/jobs", json={"model": base, "training_file": file}).json()
    end = time.monotonic() + _PATIENCE_S
    while job["status"] not in ("succeeded", "failed"):
        assert time.monotonic() < end, job
        time.sleep(0.1)
        job = web.get(f"/fine_tuning/jobs/{job['id']}").json()
    if job["status"] == "succeeded":
        _ask(web, job["fine_tuned_model"])
    return str(job["status"])


def _try_to_leave() -> None:
    """Do what nothing else here may, so that a failure to notice it is noticed."""
    with socket.socket() as outgoing:
        outgoing.settimeout(1)
        try:
            outgoing.connect((_ELSEWHERE, 80))
        except OSError:
            return


def main() -> None:
    """Do it, and tell."""
    open_loopback()
    before = no_routes()
    found = live_through(Path(sys.argv[1]), "--job" in sys.argv)
    found["no_routes"] = no_routes() - before
    _try_to_leave()
    found["no_routes_at_last"] = no_routes() - before
    print(json.dumps(found))


if __name__ == "__main__":
    main()
