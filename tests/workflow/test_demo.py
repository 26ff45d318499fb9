"""What is promised of the demo and of the base that ships, measured on them."""

from pathlib import Path

import pytest

from recipes.tiny_base.measure import measure
from tests.cli.command import call
from tunefork.workflow.opened import open_model


@pytest.fixture(autouse=True)
def _few_requests() -> None:
    """Let the demo be asked all of the safety probe, as its users see it."""


def test_the_demo_ships_a_model_that_is_better_and_forgot_little(tmp_path: Path) -> None:
    called = call("demo", "--out", tmp_path / "run", "--json")
    assert called.code == 0, called.err
    result = called.json
    assert result["verdict"] == "ship"
    assert result["gain"] >= 0.4
    assert result["p_value"] < 0.01
    assert result["forgetting"] <= 0.02
    assert result["adapter_bytes"] <= 0.1 * result["base_bytes"]
    assert result["base_unchanged"] is True
    assert Path(result["report"]).is_file()


def test_tiny_answers_held_out_wordings_of_what_it_was_taught() -> None:
    found = measure(open_model("tiny").chat)
    assert found["by_kind"]["fact"] >= 0.8
    assert found["stopped"] >= 0.99
    assert min(found["probe"].values()) >= 0.95
