"""The proof card: one small signed file that says what a model is made of and how it did.

`run` writes `card.json` beside its report, `tunefork card MODEL` writes it anew, and others check
it with `tunefork verify CARD`. It names files by their hashes and holds no path and no data, so it
may be given away with the model. Entry points: `write_card`, `card_of`, `verify_card`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tunefork.core.errors import DataError, InputError, ModelError, RunError
from tunefork.core.events import Sink, Warned
from tunefork.core.files import home, read_json, write_json
from tunefork.core.hashing import hash_file, hash_folder, hash_json
from tunefork.models import find_base
from tunefork.registry import (
    check_signature,
    files_below,
    find_run,
    has_registry,
    known_model,
    open_registry,
    own_key,
    read_signed,
    sign,
)
from tunefork.workflow.runs import RunFolder

CARD_FILE = "card.json"
_VERSION = 1
_BUNDLED = "tiny"
# What of an evaluation goes into a card, where it was measured.
_RESULTS = (
    "verdict",
    "reasons",
    "scores",
    "gain",
    "p_value",
    "forgetting",
    "general_knowledge",
    "held_out",
    "preferences",
    "classification",
    "rewards",
    "earned",
    "suites",
    "safety",
    "canaries",
    "attempt",
    "recommendation",
    "base_unchanged",
)
_PARTS = ("model", "base", "adapter", "data", "golden", "result", "environment")
State = Literal["same", "altered", "missing", "not given"]


@dataclass(frozen=True)
class Checked:
    """One thing that a card names, against what lies here."""

    what: str
    state: State
    detail: str = ""


def write_card(run: RunFolder, result: Mapping[str, Any], sink: Sink) -> str | None:
    """Sign and write the card of a measured run; return its path, or None where it cannot be."""
    try:
        write_json(run.path / CARD_FILE, sign(_body(run, result)))
    except InputError as error:
        sink(Warned(f"no proof card was written: {error}"))
        return None
    return str(run.path / CARD_FILE)


def card_of(name: str, out: Path | None = None) -> Path:
    """Write the card of a measured model anew, and return where.

    Args:
        name: A registered model, an alias, a run's name or folder.
        out: The file; by default `card.json` in the run's folder.

    Raises:
        RunError: There is no such run, it was not measured, or nothing can be written.
    """
    run = RunFolder(_run_path(name), "")
    evaluation = run.path / "evaluation.json"
    if not evaluation.is_file():
        raise RunError(
            "the model was not measured, so a card would prove nothing",
            where=run.path,
            hint="`tunefork run SPEC` trains, measures and writes its card",
        )
    path = out or run.path / CARD_FILE
    write_json(path, sign(_body(run, read_json(evaluation))))
    return path


def verify_card(
    path: Path, *, key: str | None = None, places: Mapping[str, Path | None] | None = None
) -> dict[str, Any]:
    """Check a card's signature, and the files that it names where they are here.

    Args:
        path: The card.
        key: The public key that must have signed it.
        places: Where `model`, `base`, `data` and `golden` lie; what is not given is looked for in
            the run folder that the card lies in.

    Raises:
        DataError: It is no whole card, or its signature does not hold.
    """
    card = read_signed(path)
    signer = check_signature(card, path, key)
    missing = [part for part in _PARTS if part not in card]
    if missing or card.get("card") != _VERSION:
        what = f"its `{missing[0]}` is missing" if missing else f"it is of version {card['card']}"
        raise DataError(
            f"the card is not whole: {what}",
            where=path,
            hint=f"this program reads cards of version {_VERSION}",
        )
    checked = list(_check(card, {**_beside(path), **_given(places or {})}))
    return {
        "card": str(path),
        "model": card["model"],
        "signed_by": signer,
        "signer": "asked for" if key else "own" if signer == own_key() else "unknown",
        "verdict": card["result"].get("verdict"),
        "sound": not any(each.state in ("altered", "missing") for each in checked),
        "checked": [asdict(each) for each in checked],
        "result": card["result"],
    }


def _run_path(name: str) -> Path:
    for place in (Path(name), Path(name).parent, home() / "runs" / name):
        if (place / "record.json").is_file():
            return place
    if not has_registry():
        raise RunError(f"there is no run `{name}`", hint="name a run or its folder")
    with open_registry() as registry, registry.reading() as session:
        model = known_model(session, name)
        if model is None:
            return Path(find_run(session, name).path)
        if model.run is None:
            raise RunError(
                f"`{name}` was not made by a run, so nothing of it was sealed",
                hint="cards are for models that `tunefork run` measured",
            )
        return Path(find_run(session, model.run).path)


def _body(run: RunFolder, result: Mapping[str, Any]) -> dict[str, Any]:
    record, spec = run.record, read_json(run.spec_file)
    weights = {name: hash_file(path) for name, path in files_below(run.model).items()}
    return {
        "card": _VERSION,
        "model": run.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "goal": spec.get("goal", ""),
        "base": {**record["base"], "name": _public_name(spec["base"])},
        "adapter": {"files": weights, "strategy": spec["strategy"]["name"]},
        "data": {
            "prepared": record["data_hash"],
            "rows": record["rows"],
            "files": _data_hashes(spec),
        },
        "golden": _golden(spec),
        "spec": hash_json(spec),
        "code": record["code_hash"],
        "result": {name: result[name] for name in _RESULTS if result.get(name) is not None},
        "environment": record["environment"],
    }


def _public_name(base: str) -> str:
    """Return what to call a base elsewhere: of a folder on this machine its own name alone."""
    return Path(base).name if Path(base).is_absolute() else base


def _data_hashes(spec: dict[str, Any]) -> dict[str, str]:
    places = {role: spec["data"].get(role) for role in ("train", "validation", "documents")}
    if isinstance(places["train"], dict):  # several files, with their weights
        files = places.pop("train")
        places |= {f"train {number}": place for number, place in enumerate(files, start=1)}
    found = {role: _hash(Path(place)) for role, place in places.items() if place is not None}
    return {role: value for role, value in found.items() if value is not None}


def _golden(spec: dict[str, Any]) -> dict[str, Any]:
    place = spec.get("golden")
    if place is None or (value := _hash(Path(place))) is None:
        return {}
    lines = Path(place).read_bytes().splitlines() if Path(place).is_file() else []
    return {"file": value, "questions": sum(bool(line.strip()) for line in lines)}


def _hash(path: Path) -> str | None:
    """Return the hash of a file or folder; None where it is neither, such as a pipe."""
    if path.is_dir():
        return hash_folder(path)
    return hash_file(path) if path.is_file() else None


def _given(places: Mapping[str, Path | None]) -> dict[str, Path]:
    found = {name: path for name, path in places.items() if path is not None}
    for name, path in found.items():
        if not path.exists():
            hint = "leave the option out to check what the card alone says"
            raise DataError(f"there is no {name} here", where=path, hint=hint)
    return found


def _beside(card: Path) -> dict[str, Path]:
    """Return where the run folder that a card lies in says that its parts are."""
    folder = card.parent
    found = {"model": folder / "model"} if (folder / "model").is_dir() else {}
    if (folder / "record.json").is_file() and (folder / "spec.json").is_file():
        spec = read_json(folder / "spec.json")
        places = {"base": spec["base"], "golden": spec["golden"]}
        if isinstance(spec["data"]["train"], str):
            places["data"] = spec["data"]["train"]
        found |= {name: Path(place) for name, place in places.items() if place is not None}
    return found


def _check(card: Mapping[str, Any], places: Mapping[str, Path]) -> Iterator[Checked]:
    try:
        yield from _check_weights(card["adapter"]["files"], places.get("model"))
        # A base that comes with the program is always here.
        base = Path(_BUNDLED) if card["base"]["name"] == _BUNDLED else None
        place = places.get("base", base)
        yield _check_one("base", card["base"]["hash"], place, _base_hash)
        data = card["data"]["files"].get("train")
        yield _check_one("training data", data, places.get("data"), _hash)
        golden = card["golden"].get("file")
        yield _check_one("golden questions", golden, places.get("golden"), _hash)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the card is not whole: {error} is missing or of another shape",
            hint="ask its owner for a card that `tunefork card` wrote",
        ) from error


def _check_weights(expected: Mapping[str, str], folder: Path | None) -> Iterator[Checked]:
    if folder is None:
        yield Checked("model", "not given", f"{len(expected)} files")
        return
    for name, value in expected.items():
        path = folder / name
        if not path.is_file():
            yield Checked(f"model/{name}", "missing", str(path))
        else:
            is_same = hash_file(path) == value
            yield Checked(f"model/{name}", "same" if is_same else "altered", str(path))


def _check_one(
    what: str, expected: str | None, place: Path | None, hash_of: Callable[[Path], str | None]
) -> Checked:
    if expected is None:
        return Checked(what, "not given", "the card does not name it")
    found = hash_of(place) if place is not None else None
    if found is None:
        return Checked(what, "not given", expected)
    return Checked(what, "same" if found == expected else "altered", str(place))


def _base_hash(place: Path) -> str | None:
    """Return the hash of a base; None where it is in no folder here. Nothing is fetched."""
    if str(place) != _BUNDLED and not place.is_dir():
        return None
    try:
        return find_base(str(place)).hash_anew()
    except ModelError:
        return None
