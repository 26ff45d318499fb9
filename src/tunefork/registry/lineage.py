"""Where a model came from: base + data + settings + code + environment + seed."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from tunefork.core.units import bytes_text
from tunefork.registry.aliases import current_aliases, verdict_of
from tunefork.registry.names import find_model
from tunefork.registry.tables import Run, Spec
from tunefork.registry.views import (
    describe_base,
    describe_evaluation,
    last_evaluation,
    run_data,
)

_SHORT = 19  # `sha256:` and twelve digits


def lineage(session: Session, name: str) -> dict[str, Any]:
    """Return all that a model came from, as plain data.

    Raises:
        ModelError: There is no such model.
    """
    model = find_model(session, name)
    run = session.get(Run, model.run) if model.run else None
    spec = session.get_one(Spec, run.spec_hash) if run else None
    last = last_evaluation(session, model.name)
    aliases = current_aliases(session)
    return {
        "model": model.name,
        "hash": model.bundle_hash,
        "aliases": [alias for alias, each in aliases.items() if each.model == model.name],
        "base": describe_base(session, model.base_hash),
        "data": run_data(session, run) if run else [],
        "data_hash": run.data_hash if run else None,
        "settings": _settings(spec.content) if spec else {},
        "spec_hash": spec.hash if spec else None,
        "seed": spec.content["training"]["seed"] if spec else None,
        "code": {"hash": run.code_hash, "version": run.environment["tunefork"]} if run else None,
        "environment": run.environment if run else {},
        "run": {"name": run.name, "path": run.path, "created": run.created} if run else None,
        "verdict": verdict_of(session, model.name),
        "evaluation": describe_evaluation(last) if last else None,
    }


def lineage_parts(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return a lineage as titled lines, what comes first first."""
    base = found["base"]
    parts = [
        (
            "base",
            [
                f"{base['name']}, {bytes_text(base['bytes'])}, licence {base['licence']}",
                *([f"revision {base['revision']}"] if base["revision"] else []),
                base["hash"][:_SHORT],
            ],
        )
    ]
    for data in found["data"]:
        rows = f", {data['rows']:,} rows" if data["rows"] is not None else ""
        lines = [f"{data['version']}{rows}", data["hash"][:_SHORT]]
        lines += [_change(each) for each in data["history"] if each["changes"]]
        parts.append((f"data ({data['role']})", lines))
    if found["settings"]:
        settings = [f"{key} {value}" for key, value in found["settings"].items()]
        parts.append(("settings", [*settings, found["spec_hash"][:_SHORT]]))
        parts.append(("seed", [str(found["seed"])]))
    if found["code"]:
        code = found["code"]
        parts.append(("code", [f"tunefork {code['version']}", code["hash"][:_SHORT]]))
        environment = [f"{key} {value}" for key, value in found["environment"].items()]
        parts.append(("environment", environment))
    return parts


def lineage_text(found: dict[str, Any]) -> str:
    """Return a lineage as lines of text."""
    lines = []
    for title, values in lineage_parts(found):
        for at, value in enumerate(values):
            lines.append(f"{title if at == 0 else '':<18}{value}")
    if found["run"]:
        lines.append(f"{'→ run':<18}{found['run']['name']}, {found['run']['created'][:10]}")
    lines.append(f"{'→ model':<18}{found['model']}  {found['hash'][:_SHORT]}")
    if found["verdict"]:
        lines.append(f"{'  verdict':<18}{found['verdict']}")
    if score := score_text(found):
        lines.append(f"{'  score':<18}{score}")
    if found["aliases"]:
        lines.append(f"{'  known as':<18}{', '.join(found['aliases'])}")
    return "\n".join(lines)


def score_text(found: dict[str, Any]) -> str | None:
    """Say how a model did when it was last measured; None where it never was."""
    last = found["evaluation"]
    if last is None or last["score"] is None:
        return None
    return f"{last['score']:.1%}" + (f" on {last['golden']}" if last["golden"] else "")


def _settings(spec: dict[str, Any]) -> dict[str, str]:
    training = {key: value for key, value in spec["training"].items() if key != "seed"}
    chosen = {
        "strategy": spec["strategy"],
        "objective": spec["objective"],
        **training,
        "replay": spec["data"]["replay"],
        "date": spec["date"],
    }
    return {key: _plain(value) for key, value in chosen.items()}


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        name = value.get("name", "")
        others = [f"{key} {each}" for key, each in value.items() if key != "name"]
        return f"{name} ({', '.join(others)})" if others else str(name)
    return str(value)


def _change(each: dict[str, Any]) -> str:
    changes = each["changes"]
    return f"{each['version']}: {changes['added']} rows added, {changes['removed']} removed"
