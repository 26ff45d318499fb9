"""Formats that the user describes: `data.map` in a spec, `--map` of a command."""

from __future__ import annotations

from collections.abc import Mapping

from tunefork.core.errors import SpecError, did_you_mean
from tunefork.core.hashing import canonical_json
from tunefork.data.formats.form import Format
from tunefork.data.formats.judged import judged
from tunefork.data.formats.pairs import pair
from tunefork.data.formats.preference import prompted
from tunefork.data.formats.prompt import prompt_of
from tunefork.data.formats.texts import labelled, plain

_KEYS = ("assistant", "chosen", "good", "label", "prompt", "rejected", "system", "text", "user")
_SHAPE = "write it as {user: COLUMN, assistant: COLUMN}, and system: COLUMN if there is one"
_OTHERS = (
    "a map names `user` and `assistant`; or `user`, `chosen` and `rejected`; or `user`, "
    "`assistant` and `good`; or `text`, and `label` if there is one; or `prompt`"
)


def mapped_format(mapping: Mapping[str, str]) -> Format:
    """Return the format that a map describes.

    Raises:
        SpecError: where it names too little, too much, or something unknown.
    """
    for key in mapping:
        if key not in _KEYS:
            hint = did_you_mean(key, list(_KEYS)) or _SHAPE
            raise SpecError(f"unknown key `{key}`", where="data.map", hint=hint)
    keys, system = mapping.keys() - {"system"}, mapping.get("system")
    name, required = f"data.map {map_text(mapping)}", tuple(dict.fromkeys(mapping.values()))
    if keys == {"prompt"}:
        return Format(name, required, prompt_of(mapping["prompt"], system), "prompts")
    if keys == {"text"}:
        return Format(name, required, plain(mapping["text"]), "text")
    if keys == {"text", "label"}:
        build = labelled(mapping["text"], mapping["label"])
        return Format(name, required, build, "labelled")
    for key in ("user", "assistant"):
        if key not in keys and not (key == "assistant" and keys & {"chosen", "rejected"}):
            raise SpecError(f"the key `{key}` is missing", where="data.map", hint=_SHAPE)
    if keys == {"user", "assistant"}:
        return Format(name, required, pair(mapping["user"], mapping["assistant"], system))
    if keys == {"user", "assistant", "good"}:
        judge = judged(mapping["user"], mapping["assistant"], mapping["good"], system)
        return Format(name, required, judge, "judged")
    if keys == {"user", "chosen", "rejected"}:
        prefer = prompted(mapping["user"], mapping["chosen"], mapping["rejected"], system)
        return Format(name, required, prefer, "preference")
    named = ", ".join(f"`{key}`" for key in sorted(keys))
    raise SpecError(f"{named} do not go together", where="data.map", hint=_OTHERS)


def map_text(mapping: Mapping[str, str]) -> str:
    """Return the mapping as YAML; names that YAML could read otherwise are quoted."""
    quoted = {
        key: column if column.isidentifier() else canonical_json(column)
        for key, column in mapping.items()
    }
    return "{" + ", ".join(f"{key}: {column}" for key, column in quoted.items()) + "}"


def map_option(mapping: Mapping[str, str]) -> str:
    """Return the mapping as a command takes it."""
    text = ",".join(f"{key}={column}" for key, column in mapping.items())
    return (
        f"--map {text}" if text.replace("_", "").isalnum() or " " not in text else f"--map '{text}'"
    )
