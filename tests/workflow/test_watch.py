"""Watching what is forgotten while a model learns: what it costs, and what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.small import save_model
from tunefork.core.events import no_sink
from tunefork.data import Example, Rendered, Renderer, load_tokenizer
from tunefork.data.tokens import TokenRows
from tunefork.evaluation import ProbeItem
from tunefork.inference import ChatModel, score_rows
from tunefork.models import find_base, load_model
from tunefork.training import TrainingData, TrainSettings
from tunefork.workflow.measure import answer_probe
from tunefork.workflow.watch import general_watch

ITEMS = tuple(
    ProbeItem(f"is {at % 10} {word}?", (word, word[::-1]), at % 2, f"{word} {at}", "select")
    for word in ("abc", "dab", "fed", "hig", "nap", "cat")
    for at in range(40)
)
SETTINGS = TrainSettings(
    epochs=20, learning_rate=1e-3, batch_tokens=2000, micro_tokens=500, validate_every=50
)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    base = find_base(str(save_model("llama", tmp_path_factory.mktemp("watch") / "base")))
    return ChatModel(load_model(base), Renderer(load_tokenizer(base.folder)), base.max_length)


def rows(tokens: int) -> TokenRows:
    length = 50
    count = tokens // length
    return TokenRows(
        np.ones(count * length, dtype=np.int32),
        np.ones(count * length, dtype=np.float32),
        np.arange(0, (count + 1) * length, length),
    )


def watched(chat: ChatModel, tokens: int, **changes: Any) -> TrainingData:
    data = TrainingData(rows(tokens), rows(500))
    settings = SETTINGS.model_copy(update=changes)
    return general_watch(chat.model, ITEMS, chat.renderer, data, settings, 0.02, no_sink)


def test_the_base_has_forgotten_nothing(chat: ChatModel) -> None:
    watch = watched(chat, 40_000).watch
    assert watch is not None
    assert (watch.measure(), watch.budget) == (0.0, 0.02)


def test_what_is_lost_is_near_what_all_items_say(chat: ChatModel) -> None:
    watch = watched(chat, 40_000).watch
    assert watch is not None
    before = answer_probe(chat, ITEMS, "base", no_sink)
    weight = chat.model.get_output_embeddings().weight
    kept = weight.detach().clone()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(kept.shape, generator=generator) * kept.std()
    try:
        for size in (0.003, 0.01, 0.03):
            weight.data.copy_(kept + size * noise)
            after = answer_probe(chat, ITEMS, "tuned", no_sink)
            drop = (sum(before) - sum(after)) / len(ITEMS)
            assert watch.measure() == pytest.approx(drop, abs=0.02)
    finally:
        weight.data.copy_(kept)


def test_a_short_run_is_not_watched(chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Example] = []
    render = Renderer.render

    def counted(self: Renderer, example: Example) -> Rendered:
        made.append(example)
        return render(self, example)

    with monkeypatch.context() as patched:
        patched.setattr(Renderer, "render", counted)
        assert watched(chat, 500).watch is None
    assert len(made) < 2 * len(ITEMS)  # rows are made of what there is room for alone
    data = TrainingData(rows(40_000))
    found = general_watch(chat.model, ITEMS, chat.renderer, data, SETTINGS, 0.02, no_sink)
    assert found is data
    assert watched(chat, 40_000, validate_every=0).watch is None


def test_it_scores_about_a_tenth_of_the_training_s_time(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = 0

    def counted(model: Any, given: TokenRows, *, micro_tokens: int) -> Any:
        nonlocal scored
        scored += given.n_tokens
        assert micro_tokens == SETTINGS.micro_tokens  # no more at once than training has room for
        return score_rows(model, given, micro_tokens=micro_tokens)

    monkeypatch.setattr("tunefork.workflow.watch.score_rows", counted)
    data = watched(chat, 40_000)
    assert data.watch is not None
    steps = 40_000 // SETTINGS.batch_tokens * SETTINGS.epochs
    for _ in range(-(-steps // SETTINGS.validate_every)):
        data.watch.measure()
    # A quarter of the tokens, and their question again for each choice, which is computed once.
    assert scored <= 2 * 0.25 * 40_000 * SETTINGS.epochs
