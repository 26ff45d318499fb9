"""Projects that benchmarks run by the command line, each command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.places import CHECKOUT
from tunefork.core.files import write_json
from tunefork.workflow.spec import Project, Spec

CATGPT = CHECKOUT / "src" / "tunefork" / "examples" / "catgpt"
_VERDICTS = (0, 1)  # exit codes of a command that came to its end


def standing_alone(project: Project, **changes: object) -> Spec:
    """Return a project's spec with some values changed, and nothing of the place it lies in."""
    values = project.spec.model_dump(mode="json", exclude_defaults=True)
    values["data"]["train"] = str(project.path(project.spec.data.first))
    values["golden"] = str(project.path(str(project.spec.golden)))
    return Spec.model_validate({**values, **changes})


def call(command: str, spec: Spec, folder: Path, home: Path, options: tuple[str, ...] = ()) -> None:
    """Run a command of tunefork on a spec that is written beside its run; `folder/run` is that.

    Raises:
        SystemExit: It failed; what it said is on stderr.
    """
    write_json(folder / "spec.json", spec.model_dump(mode="json"))
    words = [sys.executable, "-P", "-m", "tunefork.cli", command, str(folder / "spec.json")]
    ends = ["--json", "--resume", "--out", str(folder / "run")]
    environment = {**os.environ, "TUNEFORK_HOME": str(home)}
    done = subprocess.run([*words, *options, *ends], env=environment, stdout=subprocess.DEVNULL)
    if done.returncode not in _VERDICTS:
        raise SystemExit(f"`tunefork {command}` failed in {folder}; see above")
