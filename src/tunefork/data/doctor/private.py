"""What must not be in a model: personal data, keys and tokens. To see it, and to mask it."""

from __future__ import annotations

from collections.abc import Iterator

from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding, Severity, around, on_rows
from tunefork.data.doctor.personal import Found, find_personal
from tunefork.data.doctor.rows import Row
from tunefork.data.doctor.secret import find_secrets

_NAMES: dict[str, tuple[Severity, str]] = {
    "pii.email": ("warning", "an e-mail address"),
    "pii.phone": ("warning", "a phone number"),
    "pii.card": ("error", "the number of a payment card"),
    "pii.iban": ("error", "a bank account (IBAN)"),
    "pii.ip": ("warning", "an IP address"),
    "pii.url": ("note", "a web address"),
    "pii.national_id": ("error", "a national identity number"),
}
# A web address is mostly there on purpose, and an answer is of no use without it.
_KEPT = {"pii.url"}
MASKS = {
    "pii.email": "[EMAIL]",
    "pii.phone": "[PHONE]",
    "pii.card": "[CARD]",
    "pii.iban": "[IBAN]",
    "pii.ip": "[IP]",
    "pii.national_id": "[ID]",
}
_SECRET_MASK = "[SECRET]"


def find_private(text: str) -> list[Found]:
    """Return (code, begin, end) of all that is private in a text, in order, none overlapping."""
    secrets = list(_apart(list(find_secrets(text))))
    found = [*secrets, *find_personal(text)]
    return sorted(_apart(found), key=lambda each: each[1])


def _apart(found: list[Found]) -> Iterator[Found]:
    taken: list[Found] = []
    for each in found:
        if all(each[2] <= other[1] or each[1] >= other[2] for other in taken):
            taken.append(each)
            yield each


def mask(text: str) -> tuple[str, list[str]]:
    """Return a text with placeholders for what is private, and the codes of what it was."""
    pieces, codes = [], []
    at = 0
    for code, begin, end in find_private(text):
        if code in _KEPT:
            continue
        pieces += [text[at:begin], MASKS.get(code, _SECRET_MASK)]
        codes.append(code)
        at = end
    return "".join([*pieces, text[at:]]), codes


def private(context: Context) -> Iterator[Finding]:
    """Report each kind of private data by the rows that hold it."""
    found: dict[str, list[Row]] = {}
    examples: dict[str, str] = {}
    for row in context.rows:
        seen: set[str] = set()
        for _, text in row.turns:
            for code, begin, end in find_private(text):
                if code not in seen:
                    seen.add(code)
                    found.setdefault(code, []).append(row)
                if code not in examples:
                    examples[code] = around(text, begin, end, _blotted(text[begin:end], code))
    for code in sorted(found):
        severity, what = _NAMES.get(code, ("error", f"a key or token ({code[7:]})"))
        hint = (
            "keep them if the model is to name them; `--fix` does not touch them"
            if code in _KEPT
            else "mask or remove it (`--fix` masks it): a model can repeat what it was trained on"
        )
        if code.startswith("secret."):
            hint = "revoke it, and remove it (`--fix` masks it)"
        yield from on_rows(code, severity, found[code], f"with {what}", hint, examples[code])


def _blotted(text: str, code: str) -> str:
    """Return the beginning of what is private, and dots for the rest."""
    if code in _KEPT:
        return text
    return text[:3] + "•" * min(8, max(3, len(text) - 3))
