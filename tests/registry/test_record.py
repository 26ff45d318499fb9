"""What is written down is read back: versions of data, views, lineage and its picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.projects import rows, write_lines
from tests.registry.small import register, write_data
from tunefork.core.errors import DataError, ModelError, RunError
from tunefork.core.hashing import hash_file
from tunefork.registry import (
    Bundle,
    Registry,
    add_data,
    add_model,
    count_rows,
    diff_datasets,
    diff_models,
    diff_runs,
    find_licence,
    lineage,
    lineage_picture,
    lineage_text,
    list_datasets,
    list_models,
    list_runs,
    look_at_data,
    open_registry,
    show_dataset,
    show_model,
    show_run,
    write_folder,
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with open_registry(tmp_path / "home") as found:
        yield found


def _add(registry: Registry, path: Path, project: str = "shop") -> str:
    seen = look_at_data(path)
    with registry.writing() as session:
        return add_data(session, registry.objects, project, seen)


def test_each_content_of_a_file_is_a_version_with_its_changes(
    registry: Registry, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "train.jsonl", rows(4))
    assert _add(registry, path) == _add(registry, path) == "shop/train@1"
    write_lines(path, [*reversed(rows(5)), rows(1)[0]])
    assert _add(registry, path) == "shop/train@2"
    write_lines(path, rows(4))
    assert _add(registry, path) == "shop/train@1"  # as it was once
    count_rows(registry)
    with registry.reading() as session:
        found = show_dataset(session, "shop/train")
        assert found["version"] == "shop/train@2"
        assert found["history"] == [
            {
                "version": "shop/train@2",
                "rows": 6,
                "changes": {"added": 2, "removed": 0, "same": 4},
            },
            {"version": "shop/train@1", "rows": 4, "changes": None},
        ]
        assert show_dataset(session, str(path)) == found
        assert [each["name"] for each in list_datasets(session)] == ["shop/train"]
        diff = diff_datasets(session, registry.objects, "shop/train@2", "shop/train@1")
    assert diff["rows"] == {"added": 0, "removed": 2, "same": 4}
    assert diff["removed"] == [rows(5)[4], rows(1)[0]] or diff["removed"] == [
        rows(1)[0],
        rows(5)[4],
    ]


def test_the_same_rows_in_another_format_are_no_change(registry: Registry, tmp_path: Path) -> None:
    first = write_lines(tmp_path / "a" / "train.jsonl", rows(3))
    second = tmp_path / "b" / "train.json"
    second.parent.mkdir()
    second.write_text(json.dumps(rows(3), indent=2))
    names = [_add(registry, first), _add(registry, second)]
    assert names == ["shop/train@1", "shop/train-2@1"]  # two files are two datasets
    with registry.reading() as session:
        found = diff_datasets(session, registry.objects, *names)
    assert found["rows"] == {"added": 0, "removed": 0, "same": 3}
    assert not found["same"]


def test_a_file_that_moved_goes_on_as_the_same_dataset(registry: Registry, tmp_path: Path) -> None:
    path = write_data(tmp_path / "here")
    _add(registry, path)
    moved = tmp_path / "there" / "train.jsonl"
    moved.parent.mkdir()
    path.rename(moved)
    assert _add(registry, moved) == "shop/train@1"
    write_data(tmp_path / "there", count=9)
    assert _add(registry, moved) == "shop/train@2"


def test_a_large_file_stays_where_it_is(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunefork.registry.files.COPY_LIMIT_BYTES", 10)
    path = write_data(tmp_path)
    version = _add(registry, path)
    assert not list(registry.objects.addresses())
    count_rows(registry)
    with registry.reading() as session:
        found = show_dataset(session, version)
        (file,) = found["files"]
        assert (file["kept"], file["hash"], found["rows"]) == (False, hash_file(path), None)
        places = write_folder(session, registry.objects, found["hash"], tmp_path / "out")
        assert places == {"train.jsonl": path}
        path.write_text("other")
        with pytest.raises(RunError, match="gone or altered"):
            write_folder(session, registry.objects, found["hash"], tmp_path / "out")


def test_a_damaged_copy_is_never_handed_out_and_healed_by_writing_again(
    registry: Registry, tmp_path: Path
) -> None:
    path = write_data(tmp_path)
    version = _add(registry, path)
    ((_, copy),) = registry.objects.addresses()
    copy.write_bytes(b"x" + copy.read_bytes()[1:])
    count_rows(registry)  # leaves it uncounted
    with registry.reading() as session:
        folder_hash = show_dataset(session, version)["hash"]
        with pytest.raises(RunError, match="cannot be used"):
            write_folder(session, registry.objects, folder_hash, tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())
        _add(registry, path)
        write_folder(session, registry.objects, folder_hash, tmp_path / "out")
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == path.read_bytes()


def test_a_folder_of_files_is_one_dataset(registry: Registry, tmp_path: Path) -> None:
    write_data(tmp_path / "many", name="a.jsonl")
    write_data(tmp_path / "many" / "deep", name="b.jsonl")
    _add(registry, tmp_path / "many")
    with registry.reading() as session:
        found = show_dataset(session, "shop/many")
    assert [file["name"] for file in found["files"]] == ["a.jsonl", "deep/b.jsonl"]


def test_runs_and_models_are_listed_shown_and_compared(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path / "a", "first")
    register(registry, tmp_path / "b", "second", b"other")
    with registry.reading() as session:
        assert [each["name"] for each in list_runs(session)] == ["second", "first"]
        assert [each["verdict"] for each in list_models(session)] == ["ship", "ship"]
        run = show_run(session, "first")
        for place in ("a/first", "b/../a/first", "a/first/model"):
            assert run == show_run(session, str(tmp_path / place))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(tmp_path))
            assert run == show_run(session, "~/a/first")
        assert [each["version"] for each in run["data"]] == ["small/train@1"]
        assert run["base"]["licence"] == "mit"
        assert run["spec"]["training"]["seed"] == 7
        model = show_model(session, str(tmp_path / "a" / "first" / "model"))
        assert model["name"] == "first"
        names = [file["name"] for file in model["bundle"]["weights"]]
        assert names == ["adapter_config.json", "adapter_model.safetensors"]
        assert diff_models(session, "first", "first")["same"]
        assert set(diff_models(session, "first", "second")["changes"]) == {
            "model",
            "weights.adapter_model.safetensors",
        }
        assert diff_runs(session, "first", "second")["same"]  # made from the same things
        for find, error in (
            (show_run, RunError),
            (show_model, ModelError),
            (show_dataset, DataError),
        ):
            with pytest.raises(error, match="list` shows what there is"):
                find(session, "xyz")


def test_a_second_run_of_a_name_gets_a_number(registry: Registry, tmp_path: Path) -> None:
    assert register(registry, tmp_path / "a", "run") == "run"
    assert register(registry, tmp_path / "b", "run", b"other") == "run-2"
    assert register(registry, tmp_path / "a", "run") == "run"


def test_a_prompt_alone_is_a_model(registry: Registry, tmp_path: Path) -> None:
    """Whichever rung wins is a bundle that can be promoted."""
    register(registry, tmp_path / "a", "run")
    with registry.reading() as session:
        base_hash = show_run(session, "run")["base"]["hash"]
    bundle = Bundle(
        base_hash,
        system_prompt="Be brief.",
        examples=[{"user": "Hi", "assistant": "Hello"}],
        decoding={"max_new_tokens": 20},
    )
    with registry.writing() as session:
        add_model(session, "prompt-only", bundle)
    with registry.reading() as session:
        found = show_model(session, "prompt-only")
        assert found["bundle"]["system_prompt"] == "Be brief."
        assert found["bundle"]["weights"] == []
        text = lineage_text(lineage(session, "prompt-only"))
    assert "→ model" in text


def test_lineage_names_all_that_a_model_came_from(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path / "a", "run")
    count_rows(registry)
    with registry.reading() as session:
        found = lineage(session, "run")
    text = lineage_text(found)
    for part in ("base", "data (train)", "settings", "seed", "code", "environment", "→ model"):
        assert any(line.startswith(part) for line in text.splitlines()), part
    for value in ("licence mit", "small/train@1, 6 rows", "lora (rank 4)", "threads 1", "ship"):
        assert value in text


@pytest.mark.parametrize("width", [320, 640])
def test_the_picture_is_sound_svg_within_its_width(
    registry: Registry, tmp_path: Path, width: int
) -> None:
    register(registry, tmp_path / "a", "run<&>")
    with registry.reading() as session:
        found = lineage(session, "run<&>")
    picture = ElementTree.fromstring(lineage_picture(found, width))
    assert picture.attrib["width"] == str(width)
    assert picture.attrib["role"] == "img"
    for rect in picture.iter("{http://www.w3.org/2000/svg}rect"):
        right = float(rect.attrib["x"]) + float(rect.attrib["width"])
        bottom = float(rect.attrib["y"]) + float(rect.attrib["height"])
        assert right <= width
        assert bottom <= float(picture.attrib["height"])
    texts = " ".join(str(text.text) for text in picture.iter("{http://www.w3.org/2000/svg}text"))
    assert "run<&>" in texts
    assert "environment" in texts


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config.json": '{"license": "mit"}', "README.md": "license: other"}, "mit"),
        ({"config.json": "{}", "README.md": "---\nlicense: apache-2.0\n---\n# A"}, "apache-2.0"),
        ({"README.md": "# A\n\nLicence: Apache-2.0.\n"}, "Apache-2.0"),
        ({"README.md": "---\nlicense:\nlanguage: en\n---\n# A"}, "unknown"),
        ({"README.md": "---\nlicense: [mit, gpl-3.0]\n---\n"}, "mit, gpl-3.0"),
        (
            {"README.md": "---\nlicense: other\nlicense_name: llama3\n---\n", "LICENSE": "Meta"},
            "llama3",
        ),
        ({"README.md": "---\nlicense: [broken\n---\n**License**: MIT\n"}, "MIT"),
        ({"LICENSE": "\n  MIT License\n\nCopyright"}, "MIT License"),
        ({"LICENSE.md": "# Apache License\n"}, "Apache License"),
        ({"config.json": "no json", "README.md": "# nothing"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_the_licence_is_found_where_it_is_told(
    tmp_path: Path, files: dict[str, Any], expected: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert find_licence(tmp_path) == expected
