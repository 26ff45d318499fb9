"""`rescue openai`: with our own server in the place of the service that is switched off."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.cli.command import Called, call
from tests.projects import write_lines
from tests.serving.fakes import SUCCEED, FakeDecoder, context_of, live, until
from tunefork.core.errors import InternalError, TuneforkError
from tunefork.core.events import no_sink
from tunefork.data import load_tokenizer
from tunefork.evaluation import load_golden
from tunefork.inference.engine import Request
from tunefork.models import find_base
from tunefork.serving.app import create_app
from tunefork.serving.guard import Access
from tunefork.workflow.json_lines import read_lines
from tunefork.workflow.prepare import prepare
from tunefork.workflow.spec import load_project

_TEXT = """
amber basin cedar delta ember fjord grove hazel indigo jasper kelp lantern meadow nectar opal
pebble quartz river saddle timber umber velvet willow xenon yarrow zephyr anchor barley cobalt
dahlia engine falcon garnet harbor island juniper kettle ledger marble needle orchid pepper
"""
_WORDS = _TEXT.split()


def _rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Return rows of which none is nearly another."""
    random_ = random.Random(seed)
    return [
        {
            "messages": [
                {"role": "user", "content": f"{' '.join(random_.sample(_WORDS, 6))}?"},
                {"role": "assistant", "content": " ".join(random_.sample(_WORDS, 5))},
            ]
        }
        for _ in range(count)
    ]


@dataclass
class Service:
    """The service, and what its models were asked."""

    url: str
    model: str
    decoder: FakeDecoder
    client: openai.OpenAI
    said: list[str] = field(default_factory=list)
    fails_after: int | None = None

    def rescue(self, folder: Path, *more: object) -> Called:
        command = ("rescue", "openai", folder, "--url", self.url, "--model", self.model)
        return call(*command, "--yes", "--json", "--key-env", "NO_KEY_HERE", *more)


def _answer(service: list[Service]) -> Callable[[Request], str | TuneforkError]:
    tokenizer = load_tokenizer(find_base("tiny").folder)

    def answer(request: Request) -> str | TuneforkError:
        text = tokenizer.decode(list(request.prompt))
        found = service[0]
        if found.fails_after is not None and len(found.said) >= found.fails_after:
            return InternalError("out of order")
        found.said.append(text)
        asked = [word for word in _WORDS if word in text]
        return f"{asked[0]} lies behind {asked[-1]}"

    return answer


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    held: list[Service] = []
    decoder = FakeDecoder(_answer(held))
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("service")
        context = stack.enter_context(context_of(folder, decoder, SUCCEED))
        url = stack.enter_context(live(create_app(context, Access())))
        client = stack.enter_context(openai.OpenAI(base_url=url, api_key="none", max_retries=0))

        def upload(name: str, rows: list[dict[str, Any]]) -> str:
            path = write_lines(folder / name, rows)
            return client.files.create(file=path, purpose="fine-tune").id

        job = client.fine_tuning.jobs.create(
            model="gpt-4o-mini",
            training_file=upload("mine.jsonl", _rows(60, 1)),
            validation_file=upload("held.jsonl", _rows(40, 2)),
            suffix="cats",
            seed=7,
        )
        until(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "succeeded")
        model = str(client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model)
        held.append(Service(url, model, decoder, client))
        yield held[0]


@pytest.fixture(autouse=True)
def _fresh(service: Service) -> None:
    service.said.clear()
    service.fails_after = None


def test_a_project_that_is_ready_to_run(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    found = service.rescue(folder)
    assert found.code == 0, found.err
    assert "100 questions, about" in found.err
    assert (found.json["asked"], found.json["recorded"]) == (100, 100)
    assert len(service.said) == len(set(service.said)) == 100
    project = load_project(folder)
    spec = project.spec
    assert (spec.training.epochs, spec.training.seed) == (2, 7)  # as the job tells
    assert spec.objective.name == "sft"
    golden = load_golden(folder / "golden.jsonl")
    assert found.json["golden"] == len(golden) > 0
    # The model's own answers are what is to be reached, and no question is in both files.
    assert all("lies behind" in str(question.reference) for question in golden)
    validation = read_lines(folder / "validation.jsonl")
    assert len(validation) + len(golden) == 40
    assert all("lies behind" in row["messages"][-1]["content"] for row in validation)
    questions = {row["messages"][0]["content"] for row in validation}
    assert not questions & {question.text for question in golden}
    held_out = {row["messages"][0]["content"] for row in _rows(40, 2)}
    assert questions | {question.text for question in golden} == held_out
    assert read_lines(folder / "train.jsonl") == _rows(60, 1)
    job = json.loads((folder / "service" / "job.json").read_text())
    assert job["fine_tuned_model"] == service.model
    for name in ("metrics.csv", "events.jsonl", "checkpoints.jsonl", "validation.jsonl"):
        assert (folder / "service" / name).stat().st_size
    prepared = prepare(project, no_sink)
    assert (len(prepared.data.rows), len(prepared.held_out_rows)) == (60, len(validation))


def test_cut_short_it_goes_on_and_asks_nothing_twice(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    service.fails_after = 25
    broken = service.rescue(folder)
    assert broken.code == 1
    assert "says 500" in broken.json["error"]["message"]
    answers = folder / "service" / "answers.jsonl"
    lines = answers.read_text().splitlines(keepends=True)
    assert sum(bool(line.strip()) for line in lines) == 25
    assert not (folder / "tunefork.yaml").exists()
    # As a kill would leave it: the last line cut in the middle.
    answers.write_text("".join(lines)[:-30])
    service.fails_after = None
    found = service.rescue(folder)
    assert found.code == 0, found.err
    assert (found.json["asked"], found.json["recorded"]) == (76, 100)
    counts = [len(list(group)) for _, group in itertools.groupby(sorted(service.said))]
    assert sorted(counts)[-2:] == [1, 2]  # the one whose answer was lost
    (folder / "tunefork.yaml").write_text("data: {train: train.jsonl}\n")
    asked = len(service.said)
    again = service.rescue(folder)
    assert (again.code, again.json["asked"], len(service.said)) == (0, 0, asked)
    assert (folder / "tunefork.yaml").read_text() == "data: {train: train.jsonl}\n"


@pytest.mark.soak
def test_killed_it_goes_on(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    answers = folder / "service" / "answers.jsonl"
    command = [sys.executable, "-m", "tunefork.cli", "rescue", "openai", str(folder), "--yes"]
    command += ["--url", service.url, "--model", service.model, "--key-env", "NO_KEY_HERE"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until(lambda: len(read_lines(answers)) >= 10)
        process.send_signal(signal.SIGKILL)
    assert service.rescue(folder).json["recorded"] == 100
    # What was on its way when it was killed, and nothing else.
    assert len(service.said) - len(set(service.said)) <= 4


def test_few_answers_or_none(service: Service, tmp_path: Path) -> None:
    few = service.rescue(tmp_path / "few", "--answers", 12, "--price-in", 1e6, "--price-out", 0)
    assert few.code == 0, few.err
    assert "at these prices" in few.err
    assert (few.json["golden"], few.json["validation"]) == (0, 12)
    assert "no golden questions" in few.err
    none = service.rescue(tmp_path / "none", "--answers", 0)
    assert none.code == 0, none.err
    assert len(service.said) == 12
    project = load_project(tmp_path / "none")
    assert project.spec.golden is None
    held_out = read_lines(tmp_path / "none" / "validation.jsonl")
    assert held_out == _rows(40, 2)


def test_nothing_is_asked_without_being_allowed(service: Service, tmp_path: Path) -> None:
    refused = call("rescue", "openai", tmp_path / "x", "--url", service.url)
    assert refused.code == 2
    assert "--yes" in refused.err
    other = call("rescue", "openai", tmp_path / "x", "--url", service.url, "--model=y", "--yes")
    assert service.model in other.err
    assert other.code == 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert "not empty" in service.rescue(tmp_path / "full").err
    assert not service.said
    assert not (tmp_path / "x").exists()


def test_a_model_that_is_switched_off_already(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "late"
    assert service.rescue(folder, "--answers", 3).code == 0
    (folder / "service" / "answers.jsonl").unlink()
    (folder / "tunefork.yaml").unlink()
    job_file = folder / "service" / "job.json"
    job = json.loads(job_file.read_text())
    job_file.write_text(json.dumps({**job, "fine_tuned_model": "ft:gone"}))
    command = ("rescue", "openai", folder, "--url", service.url, "--yes", "--json")
    late = call(*command, "--key-env", "NO_KEY_HERE", "--answers", 3)
    assert late.code == 0, late.err
    assert "does not answer any more" in late.err
    assert late.json["recorded"] == 0
    assert load_project(folder).spec.data.validation == "validation.jsonl"
