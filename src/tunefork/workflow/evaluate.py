"""`eval`: let one model answer golden questions and grade what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunefork.core.events import Sink
from tunefork.evaluation import interval, load_golden
from tunefork.workflow.measure import ask
from tunefork.workflow.opened import open_model
from tunefork.workflow.register import register_score

_CONFIDENCE = 0.95


def evaluate(name: str, golden_path: Path, sink: Sink) -> dict[str, Any]:
    """Return the score of a model on golden questions, with its interval and every answer.

    The registry notes it, where it knows the model.

    Raises:
        InputError: The questions or the model cannot be used.
    """
    golden = load_golden(golden_path)
    opened = open_model(name)
    answers, grades = ask(opened.chat, golden, name, sink, opened.decoding)
    scores = [grade.score for grade in grades]
    mean = interval(scores, [question.group for question in golden], _CONFIDENCE)
    score = {"score": mean.mean, "low": mean.low, "high": mean.high}
    register_score(name, golden_path, score, sink)
    return {
        "model": name,
        "questions": len(golden),
        **score,
        "answers": [
            {
                "question": question.text,
                "reference": question.reference,
                "answer": answer.text,
                "ended": answer.ended,
                "score": grade.score,
                "passed": grade.passed,
                "detail": grade.detail,
                "group": question.group,
            }
            for question, answer, grade in zip(golden, answers, grades, strict=True)
        ],
    }
