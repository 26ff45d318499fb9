"""Record what TRL makes of a few small batches, for `test_trl.py`.

TRL is no dependency of the project; run this where it is installed, with its own dependencies:

    python tests/objectives/record_trl.py tests/objectives/trl.json

Every batch goes through TRL's own trainer: its tokenisation, collator, model call and loss, on a
small Llama whose weights are a formula, so that no file of weights has to be kept. Recorded are the
token ids and masks that TRL made, the loss, and for each weight the norm of its gradient and its
scalar product with another formula.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
POLICY, REFERENCE = 0.37, 0.53  # what tells the two models' weights apart
PAIRS = [
    {"prompt": "what does a cat do all day", "chosen": "it naps", "rejected": "it barks loudly"},
    {"prompt": "who naps", "chosen": "the old cat over there", "rejected": "nobody"},
    {"prompt": "is it late", "chosen": "yes it is", "rejected": "no not yet at all"},
]


def formula(shape: tuple[int, ...], phase: float) -> torch.Tensor:
    """Return numbers between -1 and 1 that depend on shape and phase alone."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 12.9898 + 78.233 * phase).view(
        shape
    )


def small_llama(phase: float) -> Any:
    """Return a Llama whose weights are a formula."""
    config = transformers.LlamaConfig(**SIZES)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    )
    with torch.no_grad():
        for number, (_, weight) in enumerate(model.named_parameters()):
            scale, middle = (0.1, 1.0) if weight.ndim == 1 else (0.25, 0.0)
            weight.copy_(middle + scale * formula(tuple(weight.shape), phase + number))
    return model


def gradients(model: Any) -> dict[str, list[float]]:
    """Return the norm of each weight's gradient, and its scalar product with a formula."""
    return {
        name: [float(g.norm()), float((g.double() * formula(tuple(g.shape), 0.11)).sum())]
        for name, weight in model.named_parameters()
        if (g := weight.grad) is not None
    }


def _foreign(name: str) -> Any:
    """Return a module that this project does not depend on."""
    return importlib.import_module(name)


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    for character in " abcdefghijklmnopqrstuvwxyz":
        words[character] = len(words)
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.save_pretrained(folder)
    return fast


def _options(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": len(PAIRS),
        "use_cpu": True,
        "bf16": False,  # else TRL computes in it
        "report_to": [],
        "gradient_checkpointing": False,
        "max_length": 64,
        **more,
    }


def _recorded(trainer: Any, model: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    batch = next(iter(trainer.get_train_dataloader()))
    model.train()
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    return {
        "batch": {key: batch[key].tolist() for key in keys if key in batch},
        "loss": loss.item(),
        "gradients": gradients(model),
    }


def _dpo(folder: Path, **settings: Any) -> dict[str, Any]:
    trl, datasets = _foreign("trl"), _foreign("datasets")
    trainer = trl.DPOTrainer(
        model=small_llama(POLICY),
        ref_model=small_llama(REFERENCE),
        args=trl.DPOConfig(**_options(folder, **settings)),
        train_dataset=datasets.Dataset.from_list(PAIRS),
        processing_class=_tokenizer(folder),
    )
    return _recorded(trainer, trainer.model, ("input_ids", "attention_mask", "completion_mask"))


def _kto(folder: Path, **settings: Any) -> dict[str, Any]:
    trl, datasets = _foreign("trl"), _foreign("datasets")
    rows = [
        {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen"}
        for pair, side in zip(PAIRS, ("chosen", "rejected", "chosen"), strict=True)
    ]
    trainer = trl.KTOTrainer(
        model=small_llama(POLICY),
        ref_model=small_llama(REFERENCE),
        args=trl.KTOConfig(**_options(folder, train_sampling_strategy="sequential", **settings)),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=_tokenizer(folder),
    )
    keys = ("input_ids", "attention_mask", "completion_mask", "label")
    kl_keys = tuple(f"KL_{key}" for key in keys[:3])
    return _recorded(trainer, trainer.model, (*keys, *kl_keys))


def _grpo(folder: Path, beta: float, **settings: Any) -> dict[str, Any]:
    """Record the loss over two groups of two answers, drawn by a policy a little off this one."""
    trl, datasets = _foreign("trl"), _foreign("datasets")
    tokenizer, model = _tokenizer(folder), small_llama(POLICY)
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
        args=trl.GRPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=32,
            num_iterations=2,
            use_bias_correction_kl=False,
            use_cpu=True,
            bf16=False,
            report_to=[],
            gradient_checkpointing=False,
            **settings,
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": pair["prompt"]} for pair in PAIRS]),
        processing_class=tokenizer,
    )
    asked = [PAIRS[at]["prompt"] for at in (0, 0, 1, 1)]
    said = [PAIRS[at][side] for at in (0, 1) for side in ("chosen", "rejected")]
    batch = _padded(tokenizer, asked, "prompt", "left") | _padded(
        tokenizer, [f"{text}</s>" for text in said], "completion", "right"
    )
    places = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    width = batch["completion_ids"].shape[1]
    reference = small_llama(REFERENCE)
    add_head = _foreign("trl.trainer.grpo_trainer").add_fused_lm_head
    add_head(reference, temperature=1.0, outputs=("log_probs", "entropy"))
    with torch.no_grad():
        per_token = [
            trainer._get_per_token_logps_and_entropies(each, places, mask, width)[0]
            for each in (model, reference)
        ]
    # Ratios between 0.6 and 1.6: some of either end are clipped.
    batch["old_per_token_logps"] = per_token[0] + 0.5 * formula(per_token[0].shape, 0.7).float()
    batch["ref_per_token_logps"] = per_token[1]
    batch["advantages"] = torch.tensor([0.7, -0.7, -1.1, 1.1])
    batch["num_items_in_batch"] = batch["completion_mask"].sum()
    trainer.beta = beta  # given earlier, it would look for the reference on disk
    trainer.current_gradient_accumulation_steps = 1
    trainer.args.steps_per_generation = 1
    model.train()
    model.zero_grad()
    loss = trainer._compute_loss(model, batch)
    loss.backward()
    return {
        "batch": {name: value.tolist() for name, value in batch.items()},
        "loss": loss.item(),
        "gradients": gradients(model),
    }


def _padded(tokenizer: Any, texts: list[str], name: str, side: str) -> dict[str, torch.Tensor]:
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    width = max(map(len, ids))
    fill = [[0] * (width - len(row)) for row in ids]
    pairs = list(zip(ids, fill, strict=True))
    full = [pad + row if side == "left" else row + pad for row, pad in pairs]
    marks = [
        [0] * len(pad) + [1] * len(row) if side == "left" else [1] * len(row) + [0] * len(pad)
        for row, pad in pairs
    ]
    return {f"{name}_ids": torch.tensor(full), f"{name}_mask": torch.tensor(marks)}


def _formulas() -> dict[str, Any]:
    """Return what TRL's reference-free losses make of given log-probabilities per token."""
    orpo = _foreign("trl.experimental.orpo.orpo_trainer").ORPOTrainer
    cpo = _foreign("trl.experimental.cpo.cpo_trainer").CPOTrainer
    means = {
        "chosen": [-0.9, -2.1, -0.05, -3.5],
        "rejected": [-1.4, -0.6, -0.04, -7.0],
    }
    place = SimpleNamespace(device=torch.device("cpu"))
    found: dict[str, Any] = {"means": means}
    for name in ("orpo", "simpo"):
        chosen, rejected = (
            torch.tensor(means[side], requires_grad=True) for side in ("chosen", "rejected")
        )
        if name == "orpo":
            trainer: Any = SimpleNamespace(beta=0.3, accelerator=place)
            losses = -orpo.odds_ratio_loss(trainer, chosen, rejected)[0] - chosen
        else:
            trainer = SimpleNamespace(
                beta=2.0,
                simpo_gamma=0.7,
                loss_type="simpo",
                label_smoothing=0.0,
                alpha=0.0,
                accelerator=place,
            )
            losses = cpo.cpo_loss(trainer, chosen, rejected)[0]
        slopes = torch.autograd.grad(losses.sum(), [chosen, rejected])
        found[name] = {
            "losses": losses.tolist(),
            "gradients": [slope.tolist() for slope in slopes],
        }
    return found


def main(path: Path) -> None:
    """Write the records."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "trl": _foreign("trl").__version__,
            "sigmoid": _dpo(folder, beta=0.3, loss_type=["sigmoid"]),
            "ipo": _dpo(folder, beta=0.3, loss_type=["ipo"]),
            "normalized": _dpo(folder, beta=0.3, loss_type=["sigmoid_norm"]),
            "kto": _kto(folder, beta=0.3, desirable_weight=1.3, undesirable_weight=0.8),
            "formulas": _formulas(),
            "grpo": _grpo(folder, beta=0.1, loss_type="grpo"),
            "dr_grpo": _grpo(folder, beta=0.1, loss_type="dr_grpo"),
            "dapo": _grpo(folder, beta=0.0, loss_type="dapo", epsilon_high=0.28),
        }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
