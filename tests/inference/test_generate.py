"""Batched decoding gives each prompt what transformers' `generate` gives it alone."""

import pytest
import torch

from tests.small import CONFIGS, VOCABULARY, packed_model, plain_model, random_rows
from tunefork.inference import Decoding, generate, score_rows


def _prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    lengths = (5, 1, 12, 7, 7, 20, 3)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("slots", [2, 8])
def test_greedy_answers_equal_one_at_a_time(name: str, slots: int) -> None:
    plain, prompts = plain_model(name), _prompts()
    answers = generate(packed_model(name), prompts, {2}, Decoding(max_new_tokens=10, slots=slots))
    for prompt, answer in zip(prompts, answers, strict=True):
        expected = plain.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        ended = "stop" if 2 in expected else "length"
        assert list(answer.ids) == [token for token in expected if token != 2]
        assert answer.ended == ended


def test_sampling_does_not_depend_on_the_batch() -> None:
    model, prompts = packed_model("llama"), _prompts()
    decoding = Decoding(max_new_tokens=8, temperature=1.0, top_p=0.9, seed=5, slots=8)
    together = generate(model, prompts, {2}, decoding)
    few = generate(model, prompts, {2}, Decoding(8, 1.0, 0.9, seed=5, slots=2))
    other = generate(model, prompts, {2}, Decoding(8, 1.0, 0.9, seed=6, slots=8))
    assert together == few
    assert together != other


def test_answers_stop_at_the_longest_row_the_model_takes() -> None:
    answers = generate(
        packed_model("llama"),
        [[5] * 10, [5] * 30, []],
        {-1},
        Decoding(max_new_tokens=50),
        max_length=20,
    )
    assert [len(answer.ids) for answer in answers] == [10, 0, 0]
    assert all(answer.ended == "length" for answer in answers)


def test_scores_equal_a_plain_forward() -> None:
    plain, rows = plain_model("llama"), random_rows(9)
    for index, score in enumerate(score_rows(packed_model("llama"), rows)):
        ids, weights = (torch.tensor(part) for part in rows.row(index))
        logs = plain(ids[None].long()).logits[0].detach().log_softmax(-1)
        picked = logs[:-1].gather(1, ids[1:, None].long())[:, 0]
        assert score.log_probability == pytest.approx(float((picked * weights[1:]).sum()), abs=1e-4)
        assert score.weight == float(weights[1:].sum())
