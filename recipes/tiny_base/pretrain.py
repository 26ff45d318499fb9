"""Pre-train the bundled base `tiny` with tunefork's own engine.

    python -m recipes.tiny_base.pretrain prepare --text FOLDER --work WORK  # 2 minutes
    python -m recipes.tiny_base.pretrain train --work WORK                  # an hour, 2 cores
    python -m recipes.tiny_base.measure --model WORK/tiny

FOLDER holds the texts named in MODEL_CARD.md, as zstd JSON lines `{source, text}`. `train` may be
killed at any moment; run it again and it goes on. The same inputs give the same weights on the
same machine, threads and versions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from recipes.tiny_base import corpus, generate, model
from tunefork.core.errors import Where
from tunefork.core.events import CheckpointSaved, Event, RunStarted, StepDone, Validated
from tunefork.data.example import Example, Message
from tunefork.data.render import Rendered, Renderer
from tunefork.data.tokenizer import load_tokenizer
from tunefork.data.tokens import TokenRows
from tunefork.models import find_base, load_model
from tunefork.objectives import Sft
from tunefork.strategies import Full
from tunefork.training import CheckpointStore, TrainingData, TrainSettings, TrainStep, train

SEED = 0
GENERATED_ROWS = 440_000
TEXT_WORDS = 800_000
PROMPT_WEIGHT = 0.1  # questions are read more than written, but reading is learned by predicting
VALIDATION_ROWS = 1_000
SETTINGS = TrainSettings(
    epochs=1,
    learning_rate=1.5e-3,
    batch_tokens=4096,
    micro_tokens=2048,
    warmup=0.02,
    final_learning_rate=0.05,
    weight_decay=0.1,
    betas=(0.9, 0.95),
    validate_every=500,
    checkpoint_every=200,
    seed=SEED,
)


def prepare(text: Path, work: Path) -> None:
    """Generate and collect the data, train the tokenizer, and write all rows as token ids."""
    start = work / "start"
    start.mkdir(parents=True, exist_ok=True)
    rows = list(generate.rows(SEED, GENERATED_ROWS))
    documents = [text for _, text in corpus.simple_documents(text, TEXT_WORDS)]
    model.train_tokenizer(_texts(rows[:60_000], documents[::8]), start)
    model.initialise(start, SEED)
    renderer = Renderer(load_tokenizer(start))
    chat = TokenRows.from_rendered(_chat(renderer, rows))
    prose = TokenRows.from_rendered(_prose(renderer, documents))
    everything = TokenRows.concatenate([chat, prose])
    order = np.random.default_rng(SEED).permutation(len(everything))
    np.savez_compressed(
        work / "rows.npz",
        train=_pack(everything.select(order[VALIDATION_ROWS:])),
        validation=_pack(everything.select(order[:VALIDATION_ROWS])),
    )
    share = len(chat.ids) / len(everything.ids)
    record = {
        "rows": len(everything),
        "tokens": len(everything.ids),
        "generated_share": round(share, 4),
        "documents": len(documents),
        "longest": int(everything.lengths.max()),
    }
    (work / "data.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))


def pretrain(work: Path, device: str) -> None:
    """Train from random weights, or go on from the newest checkpoint, and save the model."""
    stored = np.load(work / "rows.npz")
    base = find_base(str(work / "start"))
    network = load_model(base, device=device, dtype=torch.bfloat16)
    strategy = Full()
    strategy.attach(network, SEED)
    train(
        TrainStep(network, Sft(), SETTINGS),
        strategy.parameters(network),
        TrainingData(_unpack(stored["train"]), _unpack(stored["validation"])),
        SETTINGS,
        CheckpointStore(work),
        _Printer(work / "metrics.jsonl"),
    )
    result = work / "tiny"
    result.mkdir(exist_ok=True)
    strategy.save(network, result, base)


def _texts(rows: list[dict[str, object]], documents: list[str]) -> Iterator[str]:
    for row in rows:
        for message in row["messages"]:  # type: ignore[attr-defined]
            yield message["content"]
    yield from documents


def _chat(renderer: Renderer, rows: list[dict[str, object]]) -> Iterator[Rendered]:
    where = Where("generated")
    for row in rows:
        messages = tuple(Message(**m) for m in row["messages"])  # type: ignore[attr-defined]
        rendered = renderer.render(Example(messages=messages, where=where))
        yield Rendered(rendered.ids, [weight or PROMPT_WEIGHT for weight in rendered.weights])


def _prose(renderer: Renderer, documents: list[str]) -> Iterator[Rendered]:
    for text in documents:
        ids = renderer.tokenizer.encode(text + model.TEXT_END)[:1024]
        yield Rendered(ids, [1.0] * len(ids))


def _pack(rows: TokenRows) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Return rows as one array of (id, weight, is first of its row)."""
    packed = np.zeros(len(rows.ids), dtype=[("id", "<u2"), ("weight", "<f2"), ("first", "?")])
    packed["id"], packed["weight"] = rows.ids, rows.weights
    packed["first"][rows.offsets[:-1]] = True
    return packed


def _unpack(packed: np.ndarray[tuple[int], np.dtype[np.void]]) -> TokenRows:
    offsets = np.append(np.flatnonzero(packed["first"]), len(packed)).astype(np.int64)
    return TokenRows(packed["id"].astype(np.int32), packed["weight"].astype(np.float32), offsets)


class _Printer:
    """Prints a line now and then, and writes the curve."""

    def __init__(self, metrics: Path) -> None:
        self._metrics = metrics

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            print(f"{event.total_parameters:,} parameters, step {event.step} of {event.steps}")
        elif isinstance(event, StepDone) and event.step % 50 == 0:
            print(
                f"step {event.step}/{event.steps}  loss {event.loss:.3f}  "
                f"{event.tokens_per_second:,.0f} tokens/s  {event.seconds_left / 60:.0f} min left",
                flush=True,
            )
            self._write({"step": event.step, "loss": round(event.loss, 4)})
        elif isinstance(event, Validated):
            print(f"step {event.step}  held-out loss {event.loss:.4f}", flush=True)
            self._write({"step": event.step, "validation_loss": round(event.loss, 4)})
        elif isinstance(event, CheckpointSaved):
            return

    def _write(self, values: dict[str, float]) -> None:
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["prepare", "train"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.stage == "prepare":
        if arguments.text is None:
            parser.error("prepare needs --text")
        prepare(arguments.text, arguments.work)
    else:
        pretrain(arguments.work, arguments.device)


if __name__ == "__main__":
    main()
