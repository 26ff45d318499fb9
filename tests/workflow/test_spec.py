"""The spec: every fault named with its line, defaults, and what a run stores loads again."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunefork.core.errors import SpecError
from tunefork.workflow.spec import Spec, load_project
from tunefork.workflow.spec_part import is_part, parts_by_name
from tunefork.workflow.strategy_specs import LoraSpec

_LEAST = "data: {train: t.jsonl}\n"


def _write(folder: Path, text: str | bytes, name: str = "tunefork.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _error(folder: Path, text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load_project(_write(folder, text))
    return caught.value


def test_defaults(tmp_path: Path) -> None:
    project = load_project(_write(tmp_path, _LEAST))
    spec = project.spec
    assert (spec.base, spec.objective.name, spec.strategy.name) == ("tiny", "sft", "auto")
    assert (spec.golden, spec.date, spec.data.replay) == (None, None, 0.0)
    assert spec.training.model_dump() == {
        "epochs": "auto",
        "learning_rate": "auto",
        "schedule": "cosine",
        "batch_tokens": "auto",
        "max_length": "auto",
        "seed": 0,
    }
    assert project.folder == tmp_path
    assert project.name == tmp_path.name
    assert load_project(tmp_path) == project


def test_paths_start_at_the_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = load_project(_write(tmp_path, _LEAST))
    monkeypatch.setenv("HOME", "/somewhere")
    assert project.path("a/b") == tmp_path / "a" / "b"
    assert project.path("/a/b") == Path("/a/b")
    assert project.path("~/b") == Path("/somewhere/b")
    assert project.path("~nosuchuser/b") == tmp_path / "~nosuchuser" / "b"


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    text = _LEAST + "training: {learning_rate: 1e-4, epochs: 3}\n"  # YAML 1.1 reads 1e-4 as text
    training = load_project(_write(tmp_path, text)).spec.training
    assert (training.learning_rate, training.epochs) == (1e-4, 3)


_FAULTS: dict[str, tuple[str, int, str, str]] = {
    "unknown key": (_LEAST + "golen: a\n", 2, "unknown key `golen`", "did you mean `golden`?"),
    "unknown key, none near": (_LEAST + "xyzzy: a\n", 2, "unknown key `xyzzy`", "known keys here"),
    "in data": ("data:\n  train: a\n  trian: b\n", 3, "`data.trian`", "did you mean `train`?"),
    "in the strategy": (
        _LEAST + "strategy:\n  name: lora\n  rnak: 3\n",
        4,
        "`strategy.rnak`",
        "did you mean `rank`?",
    ),
    "in the gate": (_LEAST + "gate:\n  min_gian: 1\n", 3, "`gate.min_gian`", "`min_gain`"),
    "in the map": ("data:\n  train: a\n  map: {usr: b}\n", 3, "data.map", ""),
    "missing": ("goal: a\n", 1, "`data` is missing", "add it"),
    "missing inside": ("goal: a\ndata: {replay: 0.1}\n", 2, "`data.train` is missing", "add it"),
    "wrong type": (_LEAST + "training:\n  epochs: [1]\n", 3, "`training.epochs` cannot be [1]", ""),
    "a group's only line": (
        "data: t.jsonl\n",
        1,
        "`data` cannot be 't.jsonl': it has keys of its own",
        "write `data: {train: …}`",
    ),
    "a word": (_LEAST + "training:\n  epochs: lots\n", 3, "'lots'", "default"),
    "too small": (_LEAST + "training: {epochs: 0}\n", 2, "greater than or equal to 1", ""),
    "too large": ("data:\n  train: a\n  replay: 1.0\n", 3, "less than 1", ""),
    "no mapping": ("data: t.jsonl\n", 1, "`data` cannot be 't.jsonl'", ""),
    "null": ("data:\n", 1, "`data` cannot be None", ""),
    "unknown strategy": (_LEAST + "strategy: fll\n", 2, "no strategy `fll`", "`full`"),
    "strategy without a name": (
        _LEAST + "strategy: {rank: 3}\n",
        2,
        "`strategy.name` is missing",
        "one of auto, full, lora, qlora, prefix, bottleneck",
    ),
    "a setting of another strategy": (
        _LEAST + "strategy:\n  name: prefix\n  rank: 3\n",
        4,
        "unknown key `strategy.rank`",
        "known keys here: name, tokens",
    ),
    "in a pattern": (
        _LEAST + "strategy:\n  name: qlora\n  rank_pattern: {q_proj: 0}\n",
        4,
        "`strategy.rank_pattern`",
        "default",
    ),
    "one of two ways": (
        _LEAST + "strategy: {name: bottleneck, placement: housby}\n",
        2,
        "'houlsby' or 'pfeiffer'",
        "",
    ),
    "schedule": (_LEAST + "training: {schedule: cosin}\n", 2, "`training.schedule`", ""),
    "unknown objective": (_LEAST + "objective: sftt\n", 2, "sft", ""),
    "no date": (_LEAST + "date: soon\n", 2, "`date`", ""),
    "twice": (_LEAST + "goal: a\ngoal: b\n", 3, "`goal` is given twice", "keep one"),
    "twice inside": ("data:\n  train: a\n  train: b\n", 3, "`train` is given twice", "keep one"),
    "a tab": (_LEAST + "training:\n\tepochs: 1\n", 3, "not valid YAML", "indentation"),
}


@pytest.mark.parametrize("name", _FAULTS)
def test_faults(name: str, tmp_path: Path) -> None:
    text, line, says, hint = _FAULTS[name]
    error = _error(tmp_path, text)
    assert error.where is not None
    assert (error.where.file, error.where.line) == (str(tmp_path / "tunefork.yaml"), line)
    assert says in error.message
    assert error.hint
    assert hint in error.hint


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    error = _error(tmp_path, _LEAST + "training:\n  epochs: 0\n  seed: x\ngaol: a\nbase: [1]\n")
    assert "`gaol`" in error.message  # an unknown key is mostly the cause of the others
    assert len(error.details) == 3
    for line, key in ((3, "training.epochs"), (4, "training.seed"), (6, "base")):
        assert any(f":{line}: `{key}`" in detail for detail in error.details), key


def test_a_bomb_of_anchors_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    error = _error(tmp_path, _LEAST + "\n".join(lines) + "\ngoal: *a11\n")
    assert len(str(error)) < 5000


@pytest.mark.parametrize(
    "text",
    ["[" * 3000, "&a [*a]", "data: &a {train: *a}", "{? [1] : 2}", "!!int x", "\ufeff", "\0"],
)
def test_strange_yaml(text: str, tmp_path: Path) -> None:
    assert _error(tmp_path, text).hint


def test_what_is_stored_loads_again(tmp_path: Path) -> None:
    spec = Spec.model_validate(
        {
            "goal": "a \u2028 line, a tab \t, \x7f, a smile \U0001f600, and 'quotes\"",
            "data": {"train": "/t.jsonl", "map": {"user": "q", "assistant": "a"}, "replay": 0.2},
            "strategy": LoraSpec(name="lora", targets=("q_proj",)),
            "training": {"learning_rate": 1e-05},
            "date": datetime.date(2024, 5, 6),
        }
    )
    text = json.dumps(spec.model_dump(mode="json"), indent=2, ensure_ascii=False)
    assert load_project(_write(tmp_path, text, "spec.json")).spec == spec


@pytest.mark.parametrize(("text", "line"), [('{"data": \n}', 2), ("", 1), ("[" * 100_000, None)])
def test_broken_json(text: str, line: int | None, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="not valid JSON") as caught:
        load_project(_write(tmp_path, text, "spec.json"))
    assert caught.value.where is not None
    assert caught.value.where.line == line


@pytest.mark.parametrize("name", ["auto", "full", "lora", "qlora", "prefix", "bottleneck"])
def test_a_strategy_is_a_name_or_a_mapping(name: str, tmp_path: Path) -> None:
    by_name = load_project(_write(tmp_path, _LEAST + f"strategy: {name}\n"))
    by_mapping = load_project(_write(tmp_path, _LEAST + f"strategy: {{name: {name}}}\n"))
    assert by_name == by_mapping
    assert by_name.spec.strategy.name == name


def test_no_part_has_more_than_fifteen_settings() -> None:
    waiting: list[Any] = [Spec]
    n_parts = 0
    while waiting:
        part = waiting.pop()
        n_parts += 1
        assert len(part.model_fields) <= 15, part
        for field in part.model_fields.values():
            waiting += parts_by_name(field).values()
            waiting += [field.annotation] if is_part(field.annotation) else []
    assert n_parts > 8


_KEYS = st.sampled_from([*Spec.model_fields, "train", "epochs", "name", "x", "date"])
_VALUES = st.recursive(
    st.sampled_from(["auto", "lora", "1e-4", "2024-13-45", "2024-01-02", "t.jsonl", "~", ".nan"])
    | st.integers(-3, 10).map(str)
    | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(_KEYS, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{k}: {v}" for k, v in items.items()) + "}"
        )
    ),
    max_leaves=6,
)
_TEXTS = st.text(max_size=60) | st.lists(st.tuples(_KEYS, _VALUES), max_size=5).map(
    lambda pairs: "".join(f"{key}: {value}\n" for key, value in pairs)
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=_TEXTS, name=st.sampled_from(["tunefork.yaml", "spec.json"]))
def test_any_text_loads_or_is_a_spec_error(tmp_path: Path, text: str, name: str) -> None:
    path = _write(tmp_path, text.encode("utf-8", "surrogatepass"), name)
    _loads_or_refuses(path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=40))
def test_any_bytes_load_or_are_a_spec_error(tmp_path: Path, data: bytes) -> None:
    _loads_or_refuses(_write(tmp_path, data))


def _loads_or_refuses(path: Path) -> None:
    refusal = None
    try:
        load_project(path)
    except SpecError as error:
        refusal = error
    if refusal is not None:
        assert refusal.hint
        assert str(refusal).startswith(str(path))
