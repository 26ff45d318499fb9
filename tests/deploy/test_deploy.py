"""What operators start it with holds together, as far as the tools at hand can tell."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.command import call
from tests.serving.fakes import FakeDecoder, context_of
from tunefork.serving.metrics import Metrics
from tunefork.serving.ready import Readiness

_ROOT = Path(__file__).parents[2]
_DEPLOY = _ROOT / "deploy"
_METRIC = re.compile(r"\btunefork_[a-z_]+")


def _needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"there is no {program}")


def _run(*command: object) -> None:
    found = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


@_needs("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (_DEPLOY / "tunefork.service").read_text(encoding="utf-8")
    here = text.replace("/opt/tunefork/bin/tunefork", sys.executable)  # a program that is there
    (tmp_path / "tunefork.service").write_text(here, encoding="utf-8")
    _run("systemd-analyze", "verify", "--man=no", tmp_path / "tunefork.service")


@_needs("promtool")
def test_prometheus_takes_its_configuration() -> None:
    _run("promtool", "check", "config", _DEPLOY / "prometheus.yml")


def test_what_is_started_is_a_command_of_ours() -> None:
    known = call("serve", "--help").out
    unit = (_DEPLOY / "tunefork.service").read_text(encoding="utf-8")
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    container = (_DEPLOY / "Containerfile").read_text(encoding="utf-8")
    options = set(re.findall(r"--[a-z-]+", start))
    for line in re.findall(r"^(?:ENTRYPOINT|CMD) \[(.*)\]$", container, re.MULTILINE):
        options |= set(re.findall(r'"(--[a-z-]+)"', line))
    assert {"--log-json", "--host", "--api-key-env"} <= options
    assert all(option in known for option in options)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """Give the names of all metrics that a server has."""
    decoder = FakeDecoder(lambda request: "Hi.")
    with context_of(tmp_path_factory.mktemp("serving"), decoder) as context:
        text = Metrics(context, Readiness(context)).text()
        yield {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def test_alerts_ask_for_what_there_is(metrics: set[str]) -> None:
    groups = yaml.safe_load((_DEPLOY / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    asked = {
        name
        for group in groups
        for rule in group["rules"]
        for name in _METRIC.findall(rule["expr"])
    }
    assert asked
    assert asked <= metrics


def test_the_docs_name_every_metric(metrics: set[str]) -> None:
    page = (_ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    ours = {name for name in metrics if name.startswith("tunefork_")}
    assert ours == set(_METRIC.findall(page))
