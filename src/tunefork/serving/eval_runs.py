"""Runs of evals: ask, mark, write down; a few at a time of each owner, in threads of their own.

A run that the end of the server interrupted goes on when it comes back, behind the last answer
that was written down.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import func, select

from tunefork.core.errors import TuneforkError
from tunefork.data import Message
from tunefork.graders import Grade, Grader, validate_grader
from tunefork.graders.templates import UnfilledTemplateError, fill
from tunefork.serving.allowance import Allowance
from tunefork.serving.asking import Asker, Said
from tunefork.serving.callers import Caller
from tunefork.serving.catalogue import Catalogue
from tunefork.serving.errors import ApiError, invalid, log
from tunefork.serving.eval_body import AskedRows, EvalRunBody, FileContent, FileReference
from tunefork.serving.graded import Programs
from tunefork.serving.ids import new_id, now
from tunefork.serving.keyring import Keyring
from tunefork.serving.limits import Limits
from tunefork.serving.meters import Meters
from tunefork.serving.store import Store, known_file
from tunefork.serving.tables import EvalItemRow, EvalRow, EvalRunRow

_AT_ONCE = 2  # of one owner
_LOOK_EVERY_S = 0.5  # whether there is room for more tokens
_MOST_BYTES = 64 * 10**6
_OPEN = ("queued", "in_progress")
_COUNTS = {"total": 0, "errored": 0, "failed": 0, "passed": 0}
Rows = list[dict[str, Any]]


def read_rows(source: FileContent | FileReference, store: Store, owner: str) -> Rows:
    """Return the rows of a run, each with `item`.

    Raises:
        ApiError: They cannot be read.
    """
    if isinstance(source, FileContent):
        return [row.model_dump() for row in source.content]
    file = known_file(store, owner, source.id, "data_source.source.id")
    if file.size_bytes > _MOST_BYTES:
        raise invalid("The file is too large for an eval.", "data_source.source.id")
    found = []
    lines = (store.files / file.id).read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise invalid(f"Line {number} is not JSON.", "data_source.source.id") from error
        if not isinstance(row, dict) or not isinstance(row.get("item"), dict):
            raise invalid(f"Line {number} has no `item`.", "data_source.source.id")
        found.append({"item": row["item"], "sample": row.get("sample")})
    if not found:
        raise invalid("The file holds no rows.", "data_source.source.id")
    return found


@dataclass(frozen=True)
class _Work:
    """A run, as it is done."""

    run: EvalRunRow
    rows: Rows
    graders: tuple[Grader, ...]
    names: tuple[str, ...]
    asked: AskedRows | None
    asker: Asker
    programs: Programs


@dataclass(frozen=True)
class EvalParts:
    """What runs need of the server."""

    store: Store
    catalogue: Catalogue
    limits: Limits
    keyring: Keyring
    meters: Meters
    programs: Programs


class EvalRuns:
    """Does runs."""

    def __init__(self, parts: EvalParts) -> None:
        self._parts = parts
        self._store = parts.store
        # One for each owner: who waits for tokens of his own keeps nobody else waiting.
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def begin(self, known: EvalRow, body: EvalRunBody, rows: Rows, by: Caller) -> EvalRunRow:
        """Take a run on."""
        source = body.data_source.model_dump(exclude_none=True)
        asked = body.data_source if isinstance(body.data_source, AskedRows) else None
        if asked is not None:
            self._asker(by).open(asked.model)
        run = EvalRunRow(
            id=new_id("evalrun_"),
            eval_id=known.id,
            key_id=by.key,
            owner=known.owner,
            created=now(),
            state="queued",
            content={
                "name": body.name or "",
                "metadata": body.metadata or {},
                "model": asked.model if asked is not None else "",
                "data_source": source,
                "report_url": "",
                "result_counts": {**_COUNTS, "total": len(rows)},
                "per_model_usage": [],
                "per_testing_criteria_results": [],
            },
        )
        with self._store.writing() as session:
            session.add(run)
        self._submit(run, known, rows)
        return run

    def cancel(self, run: EvalRunRow) -> None:
        """Stop a run before its next row."""
        if run.state in _OPEN:
            self._set(run, state="canceled")

    def resume(self) -> None:
        """Go on with what the end of the server before interrupted."""
        with self._store.reading() as session:
            runs = list(session.scalars(select(EvalRunRow).where(EvalRunRow.state.in_(_OPEN))))
        for run in runs:
            with self._store.reading() as session:
                known = session.scalars(select(EvalRow).where(EvalRow.id == run.eval_id)).first()
            body = EvalRunBody.model_validate({"data_source": run.content["data_source"]})
            try:
                assert known is not None, "a run goes with its eval"
                rows = read_rows(body.data_source.source, self._store, run.owner)
            except ApiError as error:
                self._set(run, state="failed", error={"code": "error", "message": error.message})
                continue
            self._submit(run, known, rows)

    def close(self) -> None:
        """Stop before the next row; what is left goes on later."""
        self._closing.set()
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, run: EvalRunRow, known: EvalRow, rows: Rows) -> None:
        with self._lock:
            pool = self._pools.get(run.owner)
            if pool is None:
                pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="evals")
                self._pools[run.owner] = pool
        pool.submit(self._work, run, known, rows)

    def _asker(self, by: Caller) -> Asker:
        parts = self._parts
        return Asker(parts.catalogue, Allowance(by, parts.limits, parts.meters))

    def _wait(self, seconds: float) -> bool:
        """Wait until there may be room for more tokens; say whether to go on."""
        return not self._closing.wait(min(seconds, _LOOK_EVERY_S))

    def _work(self, run: EvalRunRow, known: EvalRow, rows: Rows) -> None:
        body = EvalRunBody.model_validate({"data_source": run.content["data_source"]})
        asked = body.data_source if isinstance(body.data_source, AskedRows) else None
        criteria = known.content["testing_criteria"]
        by = self._parts.keyring.background(run.owner, run.key_id)
        usual = asked.model if asked is not None else None
        work = _Work(
            run,
            rows,
            tuple(validate_grader(each) for each in criteria),
            tuple(str(each.get("name") or each["type"]) for each in criteria),
            asked,
            replace(self._asker(by), usual_model=usual, wait=self._wait),
            self._parts.programs,
        )
        try:
            self._set(run, state="in_progress", only_if=_OPEN)
            self._rows(work)
        except ApiError as error:
            self._set(run, state="failed", error={"code": "error", "message": error.message})
        except TuneforkError as error:
            self._set(run, state="failed", error={"code": error.code, "message": error.message})
        except Exception:  # noqa: BLE001  the boundary of this thread
            log.exception("an eval failed")
            self._set(run, state="failed", error={"code": "internal", "message": "our fault"})

    def _rows(self, work: _Work) -> None:
        with self._store.reading() as session:
            query = select(func.count()).where(EvalItemRow.run_id == work.run.id)
            n_done = session.scalar(query) or 0
        for number, row in enumerate(work.rows[n_done:], start=n_done):
            if self._closing.is_set() or not self._is_open(work.run):
                return
            content = _marked(work, number, row)
            item = EvalItemRow(
                id=new_id("outputitem_"), run_id=work.run.id, owner=work.run.owner, content=content
            )
            with self._store.writing() as session:
                session.add(item)
        with self._store.reading() as session:
            items = session.scalars(select(EvalItemRow).where(EvalItemRow.run_id == work.run.id))
            found = [item.content for item in items]
        self._set(
            work.run, state="completed", only_if=_OPEN, content={**work.run.content, **_sum(found)}
        )

    def _is_open(self, run: EvalRunRow) -> bool:
        with self._store.reading() as session:
            query = select(EvalRunRow.state).where(EvalRunRow.id == run.id)
            return session.scalar(query) in _OPEN

    def _set(self, run: EvalRunRow, *, only_if: Sequence[str] | None = None, **values: Any) -> None:
        with self._store.writing() as session:
            query = select(EvalRunRow).where(EvalRunRow.id == run.id)
            known = session.scalars(query).first()
            if known is None or (only_if is not None and known.state not in only_if):
                return
            for name, value in values.items():
                setattr(known, name, value)


def _marked(work: _Work, number: int, row: dict[str, Any]) -> dict[str, Any]:
    """Return one row with its answer and its marks."""
    said, problem = _said(work, row)
    text = said.text if said is not None else ""
    graders = [grader.with_item(row["item"]) for grader in work.graders]
    ask = work.asker.answer_graders
    answers = [text] * len(graders)
    grades = work.programs.grade(graders, answers, ask) if problem is None else []
    results = [_result(*pair) for pair in zip(work.names, grades, strict=True)] if grades else []
    is_error = problem is not None or any(grade.error is not None for grade in grades)
    status = "error" if is_error else "pass" if all(g.passed for g in grades) else "fail"
    cost = said or Said("", "stop", 0, 0)
    sampling = work.asked.sampling_params if work.asked is not None else None
    drawn = sampling.model_dump(exclude_none=True) if sampling is not None else {}
    return {
        "created_at": now(),
        "eval_id": work.run.eval_id,
        "run_id": work.run.id,
        "status": status,
        "datasource_item": row["item"],
        "datasource_item_id": number,
        "results": results,
        "sample": {
            "input": [],
            "output": [{"role": "assistant", "content": text}],
            "error": {"code": "error", "message": problem} if problem is not None else None,
            "finish_reason": cost.ended,
            "model": work.asked.model if work.asked is not None else "",
            "usage": {
                "prompt_tokens": cost.prompt_tokens,
                "completion_tokens": cost.completion_tokens,
                "total_tokens": cost.prompt_tokens + cost.completion_tokens,
                "cached_tokens": 0,
            },
            **drawn,
        },
    }


def _said(work: _Work, row: dict[str, Any]) -> tuple[Said | None, str | None]:
    """Return the answer to a row, or why there is none."""
    if work.asked is None:
        text = (row.get("sample") or {}).get("output_text", row["item"].get("output_text"))
        return (Said(text, "stop", 0, 0), None) if isinstance(text, str) else (None, "no answer")
    try:
        turns = [
            Message(turn.role, fill(turn.content, "", row["item"]))
            for turn in work.asked.input_messages.template
        ]
    except UnfilledTemplateError as error:
        return None, str(error)
    sampling = work.asked.sampling_params
    drawn = sampling.model_dump(exclude_none=True) if sampling is not None else {}
    try:
        return work.asker.ask(work.asked.model, turns, drawn), None
    except ApiError as error:
        return None, error.message
    except TuneforkError as error:
        return None, error.message


def _result(name: str, grade: Grade) -> dict[str, Any]:
    return {"name": name, "passed": grade.passed, "score": grade.reward, "detail": grade.detail}


def _sum(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what a run comes to."""
    counts = Counter(item["status"] for item in items)
    passed: Counter[str] = Counter()
    marked: Counter[str] = Counter()
    for item in items:
        for result in item["results"]:
            marked[result["name"]] += 1
            passed[result["name"]] += result["passed"]
    usages = [item["sample"]["usage"] for item in items]
    names = {item["sample"]["model"] for item in items} - {""}
    keys = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")
    totals = {key: sum(usage[key] for usage in usages) for key in keys}
    return {
        "result_counts": {
            "total": len(items),
            "errored": counts["error"],
            "failed": counts["fail"],
            "passed": counts["pass"],
        },
        "per_testing_criteria_results": [
            {
                "testing_criteria": name,
                "passed": passed[name],
                "failed": marked[name] - passed[name],
            }
            for name in marked
        ],
        "per_model_usage": [
            {"model_name": name, "invocation_count": len(items), **totals} for name in sorted(names)
        ],
    }
