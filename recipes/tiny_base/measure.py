"""Measure `tiny`: held-out wordings by kind, and the general probe.

python -m recipes.tiny_base.measure --model WORK/tiny [--show 20] [--device cuda]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from recipes.tiny_base.heldout import heldout
from recipes.tiny_base.tables import GENERAL
from tunefork.core.errors import Where
from tunefork.data import Example, Message, Renderer, load_tokenizer
from tunefork.evaluation import load_probe, probe_accuracy
from tunefork.graders import parse_grader
from tunefork.inference import ChatModel, Decoding
from tunefork.models import find_base, load_model

_PROBE = GENERAL / "probe.jsonl"


def measure(chat: ChatModel) -> dict[str, Any]:
    """Return the share of held-out wordings answered rightly, by kind, and probe accuracy."""
    items = heldout()
    turns = [
        [
            Message(**m)
            for m in item.get("messages") or [{"role": "user", "content": item["question"]}]
        ]
        for item in items
    ]
    answers = chat.answer(turns, Decoding(max_new_tokens=80))
    by_kind: dict[str, list[bool]] = defaultdict(list)
    wrong = []
    for item, answer in zip(items, answers, strict=True):
        grader = parse_grader(item["grader"], reference=item["reference"], where=None)
        right = grader.grade(answer.text).passed
        by_kind[item["kind"]].append(right)
        if not right:
            question = item.get("question") or " | ".join(m["content"] for m in item["messages"])
            wrong.append((question, item["reference"], answer.text))
    passed = [one for found in by_kind.values() for one in found]
    return {
        "questions": len(passed),
        "score": sum(passed) / len(passed),
        "by_kind": {kind: sum(found) / len(found) for kind, found in by_kind.items()},
        "stopped": sum(answer.ended == "stop" for answer in answers) / len(answers),
        "probe": _probe(chat),
        "wrong": wrong,
    }


def _probe(chat: ChatModel) -> dict[str, float]:
    items = load_probe(_PROBE)
    rows = [
        Example((Message("user", item.question), Message("assistant", choice)), Where("probe"))
        for item in items
        for choice in item.choices
    ]
    means = iter(score.mean for score in chat.score(rows))
    right = probe_accuracy(items, [[next(means) for _ in item.choices] for item in items])
    halves: dict[str, list[bool]] = defaultdict(list)
    for item, one in zip(items, right, strict=True):
        halves[item.half].append(one)
    return {half: sum(found) / len(found) for half, found in halves.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--show", type=int, default=0, help="how many wrong answers to print")
    arguments = parser.parse_args()
    base = find_base(str(arguments.model))
    network = load_model(base, device=arguments.device, dtype=torch.float32)
    renderer = Renderer(load_tokenizer(base.folder))
    found = measure(ChatModel(network, renderer, base.max_length))
    wrong = found.pop("wrong")
    for question, reference, answer in wrong[: arguments.show]:
        print(f"Q: {question}\n  right: {reference}\n  said:  {answer}")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
