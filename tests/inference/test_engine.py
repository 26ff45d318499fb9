"""The engine answers each request as it would be answered alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.inference.engine import ask, ids_of, prompts, running, save_adapters
from tests.small import CONFIGS, packed_model, plain_model
from tunefork.inference import Decoding, EngineSettings, generate
from tunefork.strategies import Bank


def _plain(plain: Any, prompt: list[int], n_tokens: int = 10) -> list[int]:
    """Return what transformers answers alone."""
    found: list[int] = plain.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt)),
        max_new_tokens=n_tokens,
        do_sample=False,
        eos_token_id=2,
        pad_token_id=0,
    )[0, len(prompt) :].tolist()
    return [token for token in found if token != 2]


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_answers_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    plain = plain_model(name)
    with running(tmp_path, packed_model(name), EngineSettings(prefill_tokens=16)) as engine:
        tickets = [engine.submit(ask(prompt, n_logprobs=0)) for prompt in prompts()]
        for prompt, ticket in zip(prompts(), tickets, strict=True):
            assert ids_of(ticket) == _plain(plain, prompt)
            assert ticket.usage.prompt_tokens == len(prompt)


def test_adapters_of_all_kinds_in_one_batch_answer_as_each_alone(tmp_path: Path) -> None:
    folders = save_adapters(tmp_path)
    keys = [None, *folders] * 3
    asked = [prompts()[at % 7] for at in range(len(keys))]
    with running(tmp_path) as engine:
        for key, folder in folders.items():
            engine.pool.register(key, folder)
        tickets = [
            engine.submit(ask(prompt, key, n_logprobs=0))
            for prompt, key in zip(asked, keys, strict=True)
        ]
        answers = [ids_of(ticket) for ticket in tickets]
        assert set(engine.pool.resident) == set(folders)
    bank = Bank(packed_model("llama"))
    numbers: dict[str | None, int] = {None: 0}
    numbers |= {name: bank.add(folder) for name, folder in folders.items()}
    for prompt, wanted, answer in zip(asked, keys, answers, strict=True):
        alone = generate(bank.model, [prompt], {2}, Decoding(10), adapters=[numbers[wanted]])
        assert answer == list(alone[0].ids)


def test_a_lora_answers_as_in_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    folders = save_adapters(tmp_path)
    with running(tmp_path) as engine:
        for key in ("lora2", "lora5", "dora"):
            engine.pool.register(key, folders[key])
        for key in ("lora2", "lora5", "dora"):
            tuned = PeftModel.from_pretrained(plain_model("llama"), str(folders[key])).eval()
            tickets = [engine.submit(ask(prompt, key, n_logprobs=0)) for prompt in prompts()]
            for prompt, ticket in zip(prompts(), tickets, strict=True):
                assert ids_of(ticket) == _plain(tuned, prompt)
