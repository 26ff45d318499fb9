"""Prefix tuning here and in PEFT are the same thing: files, logits, loss and gradients."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small import CONFIGS, VOCABULARY, packed_model, plain_model, random_rows
from tunefork.core.errors import ModelError
from tunefork.data.tokens import TokenRows
from tunefork.inference import Decoding, generate, score_rows
from tunefork.models import Base, PackedLayout, Segment, collate, hash_parameters, run_on
from tunefork.objectives import Sft
from tunefork.strategies.prefix import Prefix, PrefixSettings, first_tokens
from tunefork.training import TrainSettings, TrainStep

IDS = torch.arange(4, 40)
TEXT = [5, 17, 6, 40, 22, 9, 31]


def _logits(model: Any, ids: torch.Tensor = IDS, **segment: int) -> torch.Tensor:
    with torch.no_grad():
        return run_on(model, ids, PackedLayout([Segment(len(ids), **segment)]))


def _trained(name: str, tokens: int = 6, projection: int | None = None) -> tuple[Any, Prefix]:
    """Return a model whose prefix is not what it began with."""
    model, strategy = packed_model(name), Prefix(PrefixSettings(tokens=tokens), TEXT)
    if projection:
        strategy = Prefix(PrefixSettings(tokens=tokens, projection=projection), TEXT)
    strategy.attach(model, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in strategy.parameters(model).values():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model, strategy


def _fresh_peft(name: str, tokens: int, **settings: Any) -> Any:
    """Return PEFT's model, told the shapes that it would guess wrong for some families."""
    plain = plain_model(name)
    config = plain.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    method = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=tokens,
        token_dim=heads * size,
        num_attention_heads=heads,
        **settings,
    )
    return peft.get_peft_model(plain, method).eval()


@pytest.mark.parametrize("tokens", [1, 6, 11])  # 11: longer than the windows of some models
@pytest.mark.parametrize("name", CONFIGS)
def test_peft_computes_the_same_with_what_we_save(name: str, tokens: int, tmp_path: Path) -> None:
    model, strategy = _trained(name, tokens)
    strategy.save(model, tmp_path, Base(name, tmp_path))
    with torch.no_grad():
        theirs = peft.PeftModel.from_pretrained(plain_model(name), str(tmp_path)).eval()
        expected = theirs(IDS[None], attention_mask=torch.ones(1, 36)).logits[0]
    torch.testing.assert_close(_logits(model), expected, atol=1e-5, rtol=1e-5)
    assert (expected - _logits(packed_model(name))).abs().max() > 1e-3


@pytest.mark.parametrize("projects", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_we_compute_the_same_with_what_peft_saves(
    name: str, projects: bool, tmp_path: Path
) -> None:
    theirs = _fresh_peft(name, 5, prefix_projection=projects, encoder_hidden_size=12)
    theirs.save_pretrained(str(tmp_path))
    model = packed_model(name)
    Prefix.load(model, tmp_path)
    with torch.no_grad():
        expected = theirs(IDS[None], attention_mask=torch.ones(1, 36)).logits[0]
    torch.testing.assert_close(_logits(model), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mistral"])
def test_loss_and_gradients_equal_peft_row_by_row(name: str) -> None:
    model, strategy = _trained(name)
    (ours,), theirs = strategy.parameters(model).values(), _fresh_peft(name, 6)
    learned = theirs.prompt_encoder["default"].embedding.weight
    learned.data.copy_(ours)
    rows = random_rows(6)
    total, weight = torch.zeros(()), 0.0
    for index in range(len(rows)):
        ids, weights = (torch.tensor(part) for part in rows.row(index))
        logits = theirs(ids[None].long(), attention_mask=torch.ones(1, len(ids))).logits[0]
        logs = logits[:-1].log_softmax(-1).gather(1, ids[1:, None].long())[:, 0]
        total = total - (logs * weights[1:]).sum()
        weight += float(weights[1:].sum())
    torch.autograd.backward(total / weight)
    loss = Sft().loss(model, collate(rows, range(len(rows))))
    torch.autograd.backward(loss.total / loss.weight)
    assert float((loss.total / loss.weight).detach()) == pytest.approx(
        float(total.detach() / weight), abs=1e-5
    )
    torch.testing.assert_close(ours.grad, learned.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_starts_as_real_text_before_each_document(name: str) -> None:
    model, strategy = packed_model(name), Prefix(PrefixSettings(tokens=6), TEXT)
    strategy.attach(model, seed=0)
    expected = _logits(packed_model(name), torch.cat([torch.tensor(TEXT[:6]), IDS]))[6:]
    torch.testing.assert_close(_logits(model), expected, atol=1e-5, rtol=1e-5)


def _behind_text(rows: TokenRows, text: list[int]) -> TokenRows:
    """Return rows that begin with a text, which is not learned from."""
    ids, weights = zip(*(rows.row(number) for number in range(len(rows))), strict=True)
    lengths = [len(text) + len(row) for row in ids]
    return TokenRows(
        np.concatenate([part for row in ids for part in (np.array(text, np.int32), row)]),
        np.concatenate([part for row in weights for part in (np.zeros(len(text), "f4"), row)]),
        np.cumsum([0, *lengths]),
    )


def test_scores_are_those_behind_the_text() -> None:
    model, rows = packed_model("qwen3"), random_rows(7)  # no row's first token is weighed
    Prefix(PrefixSettings(tokens=6), TEXT).attach(model, seed=0)
    expected = score_rows(packed_model("qwen3"), _behind_text(rows, TEXT[:6]))
    for found, wanted in zip(score_rows(model, rows), expected, strict=True):
        assert found.weight == wanted.weight
        assert found.log_probability == pytest.approx(wanted.log_probability, abs=1e-4)


def test_documents_share_their_beginning_behind_a_prefix() -> None:
    model, strategy = _trained("llama")
    rows = _behind_text(random_rows(5), list(range(10, 40)))
    batches = [collate(rows, range(5), shares=shares) for shares in (True, False)]
    assert len(batches[0].ids) < len(batches[1].ids)
    parameters = list(strategy.parameters(model).values())
    losses = [Sft().loss(model, batch).total for batch in batches]
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(loss, parameters)[0] for loss in losses]
    torch.testing.assert_close(*gradients, atol=2e-5, rtol=1e-4)


def test_a_short_text_is_repeated_and_none_is_drawn_from_the_vocabulary() -> None:
    repeated, drawn, again = packed_model("llama"), packed_model("llama"), packed_model("llama")
    Prefix(PrefixSettings(tokens=5), [7, 8]).attach(repeated, seed=0)
    expected = _logits(packed_model("llama"), torch.cat([torch.tensor([7, 8, 7, 8, 7]), IDS]))[5:]
    torch.testing.assert_close(_logits(repeated), expected, atol=1e-5, rtol=1e-5)
    Prefix(PrefixSettings(tokens=5)).attach(drawn, seed=3)
    Prefix(PrefixSettings(tokens=5)).attach(again, seed=3)
    assert torch.equal(_logits(drawn), _logits(again))
    assert not torch.equal(_logits(drawn), _logits(repeated))


def test_a_projection_changes_nothing_at_the_start_and_is_folded_away(tmp_path: Path) -> None:
    plain, projected = packed_model("llama"), packed_model("llama")
    Prefix(PrefixSettings(tokens=4), TEXT).attach(plain, seed=0)
    Prefix(PrefixSettings(tokens=4, projection=9), TEXT).attach(projected, seed=0)
    assert torch.equal(_logits(projected), _logits(plain))
    model, strategy = _trained("llama", projection=9)
    strategy.save(model, tmp_path, Base("llama", tmp_path))
    loaded = packed_model("llama")
    Prefix.load(loaded, tmp_path)
    assert torch.equal(_logits(loaded), _logits(model))
    assert not torch.equal(_logits(model), _logits(plain))


@pytest.mark.parametrize("projection", [None, 9])
@pytest.mark.parametrize("recompute", [False, True])
def test_every_parameter_learns_and_nothing_else(projection: int | None, recompute: bool) -> None:
    model, strategy = _trained("llama", projection=projection)
    settings = TrainSettings(epochs=1, learning_rate=1e-3, batch_tokens=1, recompute=recompute)
    step = TrainStep(model, Sft(), settings).train()
    batch = collate(random_rows(4), range(4))
    torch.autograd.backward(step(batch).total)
    parameters = strategy.parameters(model)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        f"learned_prefixes._roots.1.{name}" for name in parameters
    }
    assert all(p.grad is not None and bool(p.grad.any()) for p in parameters.values())
    assert not parameters.keys() & strategy.frozen(model).keys()


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_recomputing_layers_changes_no_bit_of_the_gradient(name: str) -> None:
    found: list[torch.Tensor] = []
    for recompute in (False, True):
        model, strategy = _trained(name)
        settings = TrainSettings(epochs=1, learning_rate=1e-3, batch_tokens=1, recompute=recompute)
        loss = TrainStep(model, Sft(), settings).train()(collate(random_rows(5), range(5)))
        # Another forward in between, with the prefix switched off, must not leak into the backward.
        with strategy.disabled(model):
            _logits(model)
            found += torch.autograd.grad(loss.total, list(strategy.parameters(model).values()))
    assert torch.equal(*found)


def test_switched_off_it_is_the_base_and_the_base_is_as_it_was() -> None:
    base = packed_model("llama")
    model, strategy = _trained("llama")
    assert hash_parameters(strategy.frozen(model).items()) == hash_parameters(
        base.named_parameters()
    )
    with strategy.disabled(model):
        assert torch.equal(_logits(model), _logits(base))
    strategy.take(model)
    assert torch.equal(_logits(model), _logits(base))
    strategy.put(model, 3)
    assert torch.equal(_logits(model), _logits(base))
    assert torch.equal(_logits(model, adapter=3), _logits(_trained("llama")[0]))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mistral"])
def test_documents_of_base_and_several_prefixes_are_computed_together(
    name: str, tmp_path: Path
) -> None:
    model, first = _trained(name, 3)
    _, second = _trained(name, 7)
    second.save(model, tmp_path, Base(name, tmp_path))
    Prefix.load(model, tmp_path, number=2)
    adapters = [1, 0, 2, 2, 1]
    parts = [torch.randint(4, VOCABULARY, (n,)) for n in (9, 4, 12, 2, 7)]
    segments = [Segment(len(p), adapter=n) for p, n in zip(parts, adapters, strict=True)]
    with torch.no_grad():
        together = run_on(model, torch.cat(parts), PackedLayout(segments))
    alone = [_logits(model, p, adapter=n) for p, n in zip(parts, adapters, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-6, rtol=2e-6)
    assert first.number == 1


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("slots", [2, 8])
def test_greedy_answers_equal_computing_everything_anew(
    name: str, slots: int, tmp_path: Path
) -> None:
    model, _ = _trained(name, 7)
    _, other = _trained(name, 2)
    other.save(model, tmp_path, Base(name, tmp_path))
    Prefix.load(model, tmp_path, number=2)
    prompts = [torch.randint(3, VOCABULARY, (n,)).tolist() for n in (5, 1, 12, 7, 9)]
    adapters = [1, 0, 2, 1, 0]
    decoding = Decoding(max_new_tokens=6, slots=slots)
    answers = generate(model, prompts, {-1}, decoding, adapters=adapters)
    for prompt, adapter, answer in zip(prompts, adapters, answers, strict=True):
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(_logits(model, torch.tensor(ids), adapter=adapter)[-1].argmax()))
        assert list(answer.ids) == ids[len(prompt) :]


def test_the_prefix_counts_towards_the_longest_row() -> None:
    model, _ = _trained("gpt2", 6)
    prompts = [[5] * 10, [5] * 30]
    answers = generate(model, prompts, {-1}, Decoding(max_new_tokens=50), max_length=20)
    assert [len(answer.ids) for answer in answers] == [4, 0]
    with pytest.raises(ModelError, match="leaves no room"):
        Prefix(PrefixSettings(tokens=128)).attach(packed_model("gpt2"), seed=0)


def test_first_tokens_are_those_of_the_rows() -> None:
    rows = random_rows(3)
    assert first_tokens(rows, 5) == tuple(rows.ids[:5])
    assert len(first_tokens(rows, 10**6)) == rows.n_tokens


def _saved(folder: Path) -> Path:
    model, strategy = _trained("llama")
    strategy.save(model, folder, Base("llama", folder))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_virtual_tokens": 9}, "`num_virtual_tokens` is not 6"),
        ({"num_layers": 1}, "made for another base"),
        ({"num_attention_heads": "x"}, "made for another base"),
    ],
)
def test_a_changed_config_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = _saved(tmp_path) / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    model = packed_model("llama")
    with pytest.raises(ModelError, match=message):
        Prefix.load(model, tmp_path)
    assert not hasattr(model, "learned_prefixes")


def test_changed_tensors_and_another_base_are_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path) / "adapter_model.safetensors"
    tensor = load_file(path)["prompt_embeddings"]
    with pytest.raises(ModelError, match="made for another base"):
        Prefix.load(packed_model("gpt2"), tmp_path)
    for tensors in ({"other": tensor}, {"prompt_embeddings": tensor.flatten()}):
        save_file(tensors, path)
        with pytest.raises(ModelError, match="no matrix `prompt_embeddings`"):
            Prefix.load(packed_model("llama"), tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelError, match="not a usable adapter"):
        Prefix.load(packed_model("llama"), tmp_path)
