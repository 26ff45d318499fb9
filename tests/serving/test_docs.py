"""The table of parameters in the docs says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunefork.serving.bodies import Body
from tunefork.serving.chat_body import ChatBody
from tunefork.serving.completions import CompletionBody
from tunefork.serving.embeddings import EmbeddingBody
from tunefork.serving.eval_body import EvalBody, EvalRunBody
from tunefork.serving.graders import RunBody
from tunefork.serving.job_body import JobBody
from tunefork.serving.response_body import ResponseBody

_PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
_BODIES: dict[str, type[Body]] = {
    "/v1/chat/completions": ChatBody,
    "/v1/completions": CompletionBody,
    "/v1/responses": ResponseBody,
    "/v1/embeddings": EmbeddingBody,
    "/v1/fine_tuning/jobs": JobBody,
    "/v1/fine_tuning/alpha/graders/run": RunBody,
    "/v1/evals": EvalBody,
    "/v1/evals/{eval_id}/runs": EvalRunBody,
}


def table(bodies: dict[str, type[Body]]) -> str:
    """Return the table as it has to stand in the docs."""
    rows = ["| where | supported | ignored | refused |", "|---|---|---|---|"]
    for path, body in bodies.items():
        cells = (sorted(body.model_fields), sorted(body.ignored), sorted(body.refused))
        texts = (", ".join(f"`{name}`" for name in names) or "none" for names in cells)
        rows.append(f"| `{path}` | {' | '.join(texts)} |")
    return "\n".join(rows)


def test_the_table_is_in_step() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    found = text.partition("<!-- parameters -->\n")[2].partition("\n<!-- /parameters -->")[0]
    assert found == table(_BODIES)


@pytest.mark.parametrize("body", _BODIES.values())
def test_no_parameter_is_two_things(body: type[Body]) -> None:
    names = [*body.model_fields, *body.ignored, *body.refused]
    assert len(names) == len(set(names))
