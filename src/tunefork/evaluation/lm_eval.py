"""Tasks of lm-eval (EleutherAI's evaluation harness) as a suite, without the package.

`lm_eval --tasks … --log_samples` writes `samples_TASK_….jsonl`: of each item what was asked, the
choices and which is right. That is all it takes to ask it anew; whose answers stand there does
not matter, so that the harness's own `--model dummy` does.
"""

from __future__ import annotations

from typing import Any

from tunefork.core.errors import DataError
from tunefork.data.read import Record
from tunefork.evaluation.probe import ProbeItem


def is_lm_eval_item(fields: dict[str, Any]) -> bool:
    """Say whether a line is one of the harness's samples."""
    return "arguments" in fields and "doc_id" in fields


def lm_eval_item(record: Record) -> ProbeItem | None:
    """Return a multiple choice with its prompt as the question; None for tasks of other kinds.

    Raises:
        DataError: The line is not as the harness writes it.
    """
    fields, where = record.fields, record.where
    given = fields["arguments"]
    if not isinstance(given, dict) or not given:
        raise DataError("`arguments` must be an object of requests", where=where)
    requests = [(each.get("arg_0"), each.get("arg_1")) for each in given.values()]
    asked = requests[0][0]
    if not isinstance(asked, str) or not all(isinstance(said, str) for _, said in requests):
        return None  # to be written, not chosen
    # Some tasks also ask how likely each choice is with nothing before it.
    choices = tuple(str(said).strip() for prompt, said in requests if prompt == asked)
    target = str(fields.get("target", ""))
    if len(choices) < 2 or not target.isdecimal() or int(target) >= len(choices):
        return None
    group = str(fields.get("doc_hash", fields["doc_id"]))
    return ProbeItem(asked.strip(), choices, int(target), group, "sealed")
