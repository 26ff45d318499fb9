"""The checks on real files against what is known to be in them."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import SHARED
from tests.data.doctor.made import make_rows
from tunefork.data.doctor import Context, Finding, examine, read_rows
from tunefork.data.doctor.near import near_pairs
from tunefork.data.doctor.personal import find_personal
from tunefork.data.doctor.text import repair_encoding
from tunefork.data.shingles import shingles

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
BITEXT = SHARED / "bitext_customer_support"
REPLIES = {"user": "instruction", "assistant": "response"}
ENTITIES = {
    "CREDIT_CARD": "pii.card",
    "DOMAIN_NAME": "pii.url",
    "EMAIL_ADDRESS": "pii.email",
    "IBAN_CODE": "pii.iban",
    "IP_ADDRESS": "pii.ip",
    "PHONE_NUMBER": "pii.phone",
    "US_SSN": "pii.national_id",
}


def findings(
    path: Path, mapping: dict[str, str], validation: Path | None = None
) -> dict[str, Finding]:
    held = read_rows(validation, mapping).rows if validation else ()
    found = examine(Context(read_rows(path, mapping), validation=held))
    return {each.code: each for each in found}


def test_banking77() -> None:
    folder = SHARED / "banking77"
    mapping = {"user": "text", "assistant": "category"}
    found = findings(folder / "train.csv", mapping, folder / "test.csv")
    assert found["leak.validation"].count == 25
    assert found["duplicate.exact"].count == 30
    assert found["conflict"].count == 1
    assert 10 <= found["label.suspect"].count <= 100


def test_bitext() -> None:
    old = findings(next(BITEXT.glob("*GPT3.5*.csv")), REPLIES)
    assert abs(old["pii.email"].count - 460) <= 5
    assert abs(old["pii.phone"].count - 472) <= 5
    assert old["duplicate.exact"].count == 137
    new = findings(next(BITEXT.glob("*Dataset__3.5MB.csv")), REPLIES)
    assert new["conflict"].count == 73


def test_e2e_nlg_is_no_conflict() -> None:
    found = findings(SHARED / "e2e_nlg" / "devset.csv", {"user": "mr", "assistant": "ref"})
    assert "conflict" not in found
    assert found["one_to_many"].severity == "note"
    assert found["one_to_many"].count == 547


def test_mojibake() -> None:
    def cases(name: str) -> list[dict[str, str]]:
        loaded: list[dict[str, str]] = json.loads((SHARED / "ftfy_mojibake" / name).read_text())
        return loaded

    wild = cases("in-the-wild.json")
    right = [repair_encoding(c["original"]) == c.get("fixed-encoding", c["fixed"]) for c in wild]
    assert sum(right) >= 0.95 * len(wild)
    touched = [c for c in cases("negative.json") if repair_encoding(c["original"]) != c["original"]]
    # One of them holds a control character that its gold repairs as well.
    assert [repair_encoding(c["original"]) for c in touched] == [c["fixed"] for c in touched]
    assert all("\x85" in case["original"] for case in touched)


@pytest.mark.parametrize("name", ["synth_dataset_v2.json", "generated_small.json"])
def test_personal_data(name: str) -> None:
    right: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for row in json.loads((SHARED / "presidio_pii" / name).read_text(encoding="utf-8")):
        got = find_personal(row["full_text"])
        gold = [
            (ENTITIES[span["entity_type"]], span["start_position"], span["end_position"])
            for span in row["spans"]
            if span["entity_type"] in ENTITIES
        ]
        for code, begin, end in gold:
            hit = any(c == code and b < end and e > begin for c, b, e in got)
            (right if hit else missed)[code] += 1
        for code, begin, end in got:
            wrong[code] += not any(c == code and b < end and e > begin for c, b, e in gold)
    for code in right | missed:
        assert right[code] >= 0.9 * (right[code] + missed[code]), code
        assert right[code] >= 0.9 * (right[code] + wrong[code]), code


def test_near_duplicates_planted_among_real_questions() -> None:
    with (SHARED / "banking77" / "train.csv").open(encoding="utf-8") as file:
        texts = [(row["text"], row["category"]) for row in csv.DictReader(file)][::5]
    made = random.Random(2)
    vocabulary = sorted({word for text, _ in texts for word in text.split()})
    pairs, planted = [], set()
    for text, label in texts:
        pairs.append((text, label))
        words = text.split()
        if len(words) >= 8 and made.random() < 0.5:
            for at in made.sample(range(len(words)), max(1, round(0.1 * len(words)))):
                words[at] = made.choice(vocabulary)
            planted.add((len(pairs) - 1, len(pairs)))
            pairs.append((" ".join(words), label))
    rows = make_rows(pairs)
    found = near_pairs(rows)
    assert len({(pair.first, pair.second) for pair in found} & planted) >= 0.95 * len(planted)
    for pair in found:
        one, other = shingles(rows[pair.first].prompt), shingles(rows[pair.second].prompt)
        assert len(one & other) / len(one | other) >= 0.5
