"""Real files of other people: each is recognised, or refused with the right remedy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import SHARED
from tunefork.core.errors import DataError
from tunefork.data.example import Preference
from tunefork.data.recognise import Recognised, scan_rows

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data is not here")

KNOWN = [
    # file, format, kind, rows
    ("formats/alpaca_en_demo.json", "instruction/input/output", "chat", 999),
    ("formats/identity.json", "instruction/input/output", "chat", 91),
    ("formats/glaive_toolcall_en_demo.json", "sharegpt", "chat", 300),
    ("formats/reason_tool_use_demo_50.jsonl", "messages in parts", "chat", 50),
    ("formats/v1_sft_demo.jsonl", "messages in parts", "chat", 500),
    ("formats/dpo_en_demo.json", "preference", "preference", 300),
    ("formats/v1_dpo_demo.jsonl", "preference without prompt", "preference", 10),
    ("formats/kto_en_demo.json", "kto", "judged", 300),
    ("formats/c4_demo.jsonl", "text", "text", 300),
    ("formats/wiki_demo.txt", "text", "text", None),
    ("formats/README.md", "text", "text", 1),
    ("formats/SOURCE.txt", "text", "text", 1),
    ("self_instruct/seed_tasks.jsonl", "instruction/instances", "chat", 175),
    ("self_instruct/user_oriented_instructions.jsonl", "instruction/instances", "chat", 252),
    ("self_instruct/t0_templates/ag_news_classify.jsonl", "prompt/completion", "chat", 200),
    ("mt_bench/dummy_conversation.json", "sharegpt", "chat", 500),
    ("gsm8k/train.jsonl", "question/answer", "chat", 7473),
    ("gsm8k/test.jsonl", "question/answer", "chat", 1319),
    ("banking77/train.csv", "text/label", "labelled", 10003),
    ("banking77/test.csv", "text/label", "labelled", 3080),
    (
        "hh_rlhf_harmless_test/harmless-base_test.jsonl",
        "preference without prompt",
        "preference",
        2312,
    ),
    (
        "hh_rlhf_harmless_test/harmless-base_test.jsonl.gz",
        "preference without prompt",
        "preference",
        2312,
    ),
    ("pretrain/african_storybook_en_ccby.jsonl.zst", "text", "text", 315),
    ("wnut17/raw_stackexchange_comments.txt", "text", "text", None),
]


@pytest.mark.parametrize(("name", "form", "kind", "n_rows"), KNOWN)
def test_recognised(name: str, form: str, kind: str, n_rows: int | None) -> None:
    told: list[Recognised] = []
    counts = Counter(
        getattr(row, "kind", "bad") for row in scan_rows(SHARED / name, tell=told.append)
    )
    assert {found.format.name for found in told} == {form}
    assert told[0].n_fit == told[0].n_rows
    assert set(counts) == {kind}
    assert n_rows in (None, counts[kind])


REFUSED = [
    # file, a piece of the message, a piece of the remedy
    ("formats/dataset_info.json", "names data sets", "one of the files"),
    (
        "gsm8k/example_model_solutions.jsonl",
        "no known format",
        "user=question,assistant=ground_truth",
    ),
    ("mt_bench/question.jsonl", "questions without answers", "golden questions"),
    ("mt_bench/reference_answer_gpt-4.jsonl", "answers without their questions", "question_id"),
    ("ifeval/ifeval_input_data.jsonl", "questions without answers", "golden questions"),
    ("e2e_nlg/devset.csv", "`mr`, `ref`", "--map user=mr,assistant=ref"),
    ("e2e_nlg/testset_w_refs.csv", "`mr`, `ref`", "--map user=mr,assistant=ref"),
    ("medquad/medquad_xml.tar.gz", "packed files", "unpack it"),
    ("wnut17/wnut17train.conll", "CoNLL", "each sentence as one row"),
    ("wnut17/emerging.dev.conll", "CoNLL", "each sentence as one row"),
    ("wnut17/emerging.test.annotated", "CoNLL", "each sentence as one row"),
    ("rag_18f_handbook/downloads/my-form.pdf", "PDF", "plain text"),
    ("rag_18f_handbook/downloads/TEMPLATE_Risk_tracker.xlsx", "2 sheets hold rows", "own"),
    ("presidio_pii/synth_dataset_v2.json", "no known format", "--map"),
]


@pytest.mark.parametrize(("name", "message", "hint"), REFUSED)
def test_refused(name: str, message: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        list(scan_rows(SHARED / name))
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    "path", sorted(SHARED.glob("anthropic_evals/*/*.jsonl")), ids=lambda p: p.name
)
def test_behaviours_are_mapped_as_the_remedy_says(path: Path) -> None:
    with pytest.raises(DataError, match="two answers") as caught:
        list(scan_rows(path))
    said = str(caught.value.hint).split("--map ")[1].split("`")[0]
    rows = list(scan_rows(path, dict(part.split("=") for part in said.split(","))))
    assert len(rows) > 50
    assert all(isinstance(row, Preference) for row in rows)


@pytest.mark.parametrize("path", sorted(SHARED.glob("bitext*/*.csv")), ids=lambda p: p.name[-16:])
def test_tables_are_mapped_as_the_remedy_says(path: Path) -> None:
    with pytest.raises(DataError, match="no known format") as caught:
        list(scan_rows(path))
    said = str(caught.value.hint).split("--map ")[1].split("`")[0]
    rows = list(scan_rows(path, dict(part.split("=") for part in said.split(","))))
    assert not any(isinstance(row, DataError) for row in rows)


def test_every_preference_of_the_transcripts_has_two_answers() -> None:
    path = SHARED / "hh_rlhf_harmless_test" / "harmless-base_test.jsonl"
    rows = [row for row in scan_rows(path) if isinstance(row, Preference)]
    assert all(row.prompt[0].role == "user" for row in rows)
    assert all(row.chosen[0].role == row.rejected[0].role == "assistant" for row in rows)
    assert sum(row.chosen[-1].content == "" for row in rows) == 4


def test_a_folder_of_pages_is_its_documents() -> None:
    rows = list(scan_rows(SHARED / "rag_18f_handbook" / "pages"))
    assert {getattr(row, "kind", "bad") for row in rows} == {"text"}
    assert len({row.where.file for row in rows if row.where}) >= 240
