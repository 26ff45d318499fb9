"""What an answer earns: a share for each step towards `{"answer": "…"}`."""

import json
from typing import Any


def reward(sample: dict[str, Any], item: dict[str, Any]) -> float:
    """Return a number from 0 to 1; 1 is a right answer."""
    try:
        found = json.loads(sample["output_text"])
    except ValueError:
        return 0.0
    if not isinstance(found, dict):
        return 0.1
    if "answer" not in found:
        return 0.2
    value = found["answer"]
    is_text = isinstance(value, str) and value != ""
    return 1.0 if is_text and len(found) == 1 else 0.5
