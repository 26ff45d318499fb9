"""Which attempt on its sealed questions a model is, as the registry has counted them."""

from __future__ import annotations

from collections.abc import Sequence

from tunefork.core.events import Sink
from tunefork.core.hashing import hash_json
from tunefork.evaluation import Attempt, GoldenQuestion, answers_hash, attempt, question_hashes
from tunefork.registry import count_attempt as count_in_registry
from tunefork.registry import open_registry
from tunefork.workflow.measure import Measured
from tunefork.workflow.register import going_on


def count_attempt(
    golden: Sequence[GoldenQuestion],
    measured: Measured,
    confidence: float,
    sink: Sink,
    whose: str | None = None,
) -> Attempt | None:
    """Return which attempt on the questions the measured model is, and the confidence it has.

    None where there are no questions, or where attempts cannot be counted, which is told.

    Args:
        golden: The sealed questions.
        measured: What the model answered to them.
        confidence: What the gate asks for.
        sink: Told where it cannot be counted.
        whose: Whose attempts count together, where it is not the user: one tenant's attempts on the
            same questions say nothing of another's, and are not told to him.
    """
    if not golden:
        return None
    evidence = answers_hash(measured.answers, measured.probe_right)
    with going_on(sink, "attempts are not counted"), open_registry() as registry:
        with registry.writing() as session:
            questions = question_hashes(golden)
            if whose is not None:
                questions = [hash_json([whose, each]) for each in questions]
            number = count_in_registry(session, questions, evidence)
        return attempt(number, confidence)
    return None
