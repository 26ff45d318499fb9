"""The engine on a CUDA GPU computes what it does on the processor. Skips without one."""

from pathlib import Path

import pytest
import torch

from tests.inference.engine import ask, ids_of, running, save_adapters
from tests.inference.engine import prompts as engine_prompts
from tests.objectives.cases import CASES, Case, first_losses
from tests.small import CONFIGS, VOCABULARY, packed_model, random_rows
from tests.strategies import cases as strategies
from tunefork.core.events import no_sink
from tunefork.inference import Decoding, generate, score_rows
from tunefork.models import PackedLayout, hash_parameters, run_on
from tunefork.objectives import Sft
from tunefork.strategies import Full, Lora
from tunefork.training import CheckpointStore, TrainingData, TrainSettings, TrainStep, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
LENGTHS = [11, 3, 17, 12, 1]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_logits_equal_the_processors(name: str, dtype: torch.dtype) -> None:
    ids = torch.randint(0, VOCABULARY, (sum(LENGTHS),))
    expected = run_on(packed_model(name), ids, PackedLayout(LENGTHS))
    model = packed_model(name).to("cuda", dtype)
    logits = run_on(model, ids.cuda(), PackedLayout(LENGTHS, "cuda")).float().cpu()
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(logits, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_answers_and_scores_equal_the_processors(name: str) -> None:
    prompts = [[5, 6, 7], [8], list(range(3, 20))]
    cpu, gpu = packed_model(name), packed_model(name).cuda()
    decoding = Decoding(max_new_tokens=6)
    assert generate(gpu, prompts, {2}, decoding) == generate(cpu, prompts, {2}, decoding)
    for ours, theirs in zip(
        score_rows(gpu, random_rows(9)), score_rows(cpu, random_rows(9)), strict=True
    ):
        assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-3)


@pytest.mark.parametrize("strategy", [Full, Lora])
def test_training_lowers_the_loss_and_repeats_itself(
    strategy: type[Full] | type[Lora], tmp_path: Path
) -> None:
    settings = TrainSettings(
        epochs=20, learning_rate=5e-3, batch_tokens=60, validate_every=10, checkpoint_every=0
    )

    def run(name: str) -> tuple[str, float, float]:
        model, method = packed_model("llama").to("cuda", torch.bfloat16), strategy()
        method.attach(model, 0)
        parameters = method.parameters(model)
        rows = random_rows(20)
        store = CheckpointStore(tmp_path / name)
        result = train(
            TrainStep(model, Sft(), settings),
            parameters,
            TrainingData(rows, rows),
            settings,
            store,
            no_sink,
        )
        assert result.state.best_loss is not None
        assert result.state.base_loss is not None
        return hash_parameters(parameters.items()), result.state.base_loss, result.state.best_loss

    first, second = run("first"), run("second")
    assert first[2] < first[1]
    assert first == second


@pytest.mark.parametrize("strategy", [pytest.param(c, id=c.name) for c in strategies.CASES])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_two_steps_of_every_objective_lower_the_loss(case: Case, strategy: strategies.Case) -> None:
    losses = first_losses(case, strategy, "cuda")
    assert losses[-1] < losses[0]


def test_adapters_of_all_kinds_in_one_batch_answer_as_on_the_processor(tmp_path: Path) -> None:
    folders = save_adapters(tmp_path)
    keys = [None, *folders] * 3
    asked = [engine_prompts()[at % 7] for at in range(len(keys))]
    answers = []
    for device in ("cpu", "cuda"):
        with running(tmp_path, packed_model("llama").to(device)) as engine:
            for key, folder in folders.items():
                engine.pool.register(key, folder)
            tickets = [
                engine.submit(ask(prompt, key, n_logprobs=0))
                for prompt, key in zip(asked, keys, strict=True)
            ]
            answers.append([ids_of(ticket) for ticket in tickets])
    assert answers[0] == answers[1]
