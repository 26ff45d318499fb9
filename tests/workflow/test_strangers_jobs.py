"""A server's job whose graders are a stranger's: programs need walls, models are bases by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.projects import questions, rows, write_lines
from tests.small import save_model
from tunefork.core.errors import DataError, InputError
from tunefork.core.events import no_sink
from tunefork.core.files import CACHE, home, write_json
from tunefork.evaluation import load_golden
from tunefork.graders import sandbox
from tunefork.graders.sandbox import WALLS_ONLY, Sandbox, Verification
from tunefork.graders.sandbox.backends import available
from tunefork.serving.job_folder import GOLDEN, TRAINING, JobFolder
from tunefork.workflow.attempts import count_attempt
from tunefork.workflow.job import check_job, first_project, main, settled_project
from tunefork.workflow.measure import Measured

_PROGRAM = {"type": "python", "source": "def grade(sample, item): return 1.0"}


def _asking(model: str) -> dict[str, Any]:
    turn = {"role": "user", "content": "Rate this: {{sample.output_text}}"}
    grader = {"type": "score_model", "name": "a", "model": model, "input": [turn]}
    return {"type": "multi", "graders": {"a": grader}, "calculate_output": "a"}


def _job(folder: Path, base: Path, golden: list[dict[str, Any]], **request: Any) -> JobFolder:
    write_lines(folder / TRAINING, rows())
    write_lines(folder / GOLDEN, golden)
    usual = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    content = {
        "id": "ftjob-x",
        "base": str(base),
        "tuned": "ft:small:acme::x",
        "bases": {"small": str(base)},
        "method": {"type": "supervised", "supervised": {}},
        "hyperparameters": usual,
        "seed": 1,
        **request,
    }
    write_json(folder / "job.json", content)
    return JobFolder(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("base") / "base")


def _no_walls() -> Verification:
    return Verification("limits", {"network": True, "files": False})


@pytest.mark.parametrize("where", ["golden", "reward"])
def test_a_program_without_walls_fails_the_job(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    golden, request = questions(), {}
    if where == "golden":
        golden[0]["grader"] = _PROGRAM
    else:
        nested = {
            "type": "multi",
            "name": "m",
            "graders": {"a": _PROGRAM},
            "calculate_output": "a",
        }
        method = {"type": "reinforcement", "reinforcement": {"grader": nested}}
        request = {"method": method}
    folder = _job(tmp_path, base, golden, **request)
    monkeypatch.setattr(sandbox, "verify", _no_walls)
    with pytest.raises(InputError, match="does not hold"):
        check_job(folder)
    main([str(tmp_path), "--check"])
    end = folder.end()
    assert end is not None
    assert end["end"] == "failed"
    assert "`python` graders are off" in end["error"]["message"]


def test_a_job_without_programs_attacks_nothing(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "verify", None)
    check_job(_job(tmp_path, base, questions()))


def test_a_grader_asks_bases_of_the_server_alone(tmp_path: Path, base: Path) -> None:
    def asking(model: str) -> dict[str, Any]:
        return {"type": "reinforcement", "reinforcement": {"grader": _asking(model)}}

    project = first_project(_job(tmp_path / "a", base, questions(), method=asking("small")))
    grader = project.spec.objective.grader  # type: ignore[union-attr]
    assert isinstance(grader, dict)
    assert grader["graders"]["a"]["model"] == str(base)
    for name in ("/etc", "../other/model", "ft:small:bots::y", str(base)):
        folder = _job(tmp_path / "b", base, questions(), method=asking(name))
        with pytest.raises(DataError, match="no base of this server"):
            first_project(folder)


def test_programs_of_strangers_never_run_without_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WALLS_ONLY, "1")
    assert "limits" not in available()
    with Sandbox() as box:
        assert box.isolation() != "limits"


def test_what_is_prepared_is_kept_where_the_server_says(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "mine"))
    settled_project(_job(tmp_path / "job", base, questions()))
    assert list((tmp_path / "mine" / "tokens").iterdir())
    assert not (home() / "cache").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": {"canaries": "/etc/passwd"}}, "names a file"),
        ({"objective": {"name": "grpo", "function": "/tmp/x.py:f"}}, "names a file"),
        ({"objective": {"name": "ppo", "reward_model": "../other/model"}}, "names a file"),
        ({"objective": {"name": "grpo", "grader": _asking("/etc")}}, "no base of this server"),
        ({"objective": {"name": "ppo", "grader": _asking("ft:x")}}, "no base of this server"),
    ],
)
def test_settings_open_nothing_that_their_sender_names(
    tmp_path: Path, base: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        first_project(_job(tmp_path, base, questions(), settings=settings))


def test_programs_of_settings_need_walls_too(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"objective": {"name": "ppo", "grader": _PROGRAM}}
    monkeypatch.setattr(sandbox, "verify", _no_walls)
    with pytest.raises(InputError, match="does not hold"):
        check_job(_job(tmp_path, base, questions(), settings=settings))


def test_attempts_of_one_tenant_say_nothing_of_anothers(tmp_path: Path, base: Path) -> None:
    """The same sealed questions, asked by two tenants and by the user: each counts alone."""
    write_lines(tmp_path / "golden.jsonl", questions())
    golden = load_golden(tmp_path / "golden.jsonl")

    def number(answer: str, whose: str | None) -> int:
        measured = Measured((answer,), (), (), (), None)
        counted = count_attempt(golden, measured, 0.95, no_sink, whose)
        assert counted is not None
        return counted.number

    assert [number(answer, "proj_a") for answer in ("x", "y", "y", "z")] == [1, 2, 2, 3]
    assert [number("x", "proj_b"), number("x", None)] == [1, 1]
    job = _job(tmp_path / "job", base, questions(), owner="proj_a")
    assert first_project(job).owner == "proj_a"
    mine = _job(tmp_path / "mine", base, questions(), owner="local")
    assert first_project(mine).owner is None
