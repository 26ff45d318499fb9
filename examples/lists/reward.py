"""What an answer earns: a share for each step towards a JSON list of so many different words."""

import json
import re


def reward(sample, item):
    """Return a number from 0 to 1; 1 is a right answer."""
    try:
        found = json.loads(sample["output_text"])
    except ValueError:
        return 0.0
    if not isinstance(found, list) or not found:
        return 0.1
    words = [
        w for w in found if isinstance(w, str) and re.fullmatch(r"[a-zA-Z]{2,}( [a-zA-Z]{2,})?", w)
    ]
    n_good = len({w.lower() for w in words})
    if len(found) == n_good == item["count"]:
        return 1.0
    return 0.2 + 0.5 * min(n_good, item["count"]) / max(len(found), item["count"])
