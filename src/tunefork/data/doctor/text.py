"""How the text itself is written: broken encoding, debris of web pages, stray white space."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding, Severity, clip, on_rows
from tunefork.data.doctor.rows import Row

_TAG = re.compile(
    r"</?(?:p|br|div|span|b|i|u|em|strong|a|ul|ol|li|table|tr|td|th|tbody|thead|img|font|h[1-6]|"
    r"script|style|hr|center|blockquote|sup|sub|iframe|nobr|small)(?:\s[^<>]{0,200})?/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"&(?:nbsp|amp|lt|gt|quot|apos|ndash|mdash|rsquo|lsquo|rdquo|ldquo|hellip|copy|reg|euro|"
    r"#\d{2,5}|#x[0-9a-f]{2,5});",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_ABOUT_HTML = re.compile(r"\b(?:html|xml|svg|css|jsx|markup|web ?page)\b", re.IGNORECASE)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]")
_LINE_END = re.compile(r"\r\n?")
_TRAILING = re.compile(r"[ \t\u00a0]+(?=\n)")
_BLANK_LINES = re.compile(r"\n{4,}")
# A run of spaces within prose. A line of a table or of code keeps its columns.
_RUN = re.compile(r"(?<=\w) {3,}(?=\w)")


def repair_encoding(text: str) -> str:
    """Return a text with mojibake undone (`Ã¼` becomes `ü`); other text comes back as it is."""
    if text.isascii():
        return text
    from ftfy import fix_encoding

    return fix_encoding(text)


def repair_whitespace(text: str) -> str:
    """Return a text without stray white space and invisible characters.

    Indentation stays, and so do the joiners that emoji and some scripts need.
    """
    found = text.strip()
    if not found:
        return ""
    if not (found.isascii() and found.isprintable()):
        found = _LINE_END.sub("\n", _INVISIBLE.sub("", found))
        found = _TRAILING.sub("", found)
        found = _BLANK_LINES.sub("\n\n\n", found)
    if "   " in found and "```" not in found and "|" not in found and "\t" not in found:
        lines = (line if line[:1] == " " else _RUN.sub(" ", line) for line in found.split("\n"))
        found = "\n".join(lines)
    return found if text[:1] != " " or "\n" not in found else _keep_indent(text, found)


def _keep_indent(text: str, found: str) -> str:
    """Keep the indentation of a first line whose next lines are indented too: it is code."""
    indent = len(text) - len(text.lstrip(" "))
    following = [line for line in found.split("\n")[1:] if line.strip()]
    is_code = all(line.startswith(" " * indent) for line in following)
    return " " * indent + found if following and is_code else found


def encoding(context: Context) -> Iterator[Finding]:
    """Report text that was read in the wrong encoding once."""
    yield from _changed(
        context,
        "encoding",
        "error",
        repair_encoding,
        "with text in a broken encoding",
        "repair it (`--fix` does), or the model learns to write it",
    )
    lost = [row for row in context.rows if any("\ufffd" in text for _, text in row.turns)]
    yield from on_rows(
        "encoding.lost",
        "warning",
        lost,
        "with the mark `\ufffd` of characters that were lost",
        "export the data again as UTF-8; what was lost cannot be repaired",
    )


def whitespace(context: Context) -> Iterator[Finding]:
    """Report stray white space."""
    yield from _changed(
        context,
        "whitespace",
        "note",
        repair_whitespace,
        "with stray white space or invisible characters",
        "clean them (`--fix` does)",
    )


def _changed(
    context: Context,
    code: str,
    severity: Severity,
    repair: Callable[[str], str],
    what: str,
    hint: str,
) -> Iterator[Finding]:
    found: list[Row] = []
    example = ""
    for row in context.rows:
        for _, text in row.turns:
            repaired = repair(text)
            if repaired != text:
                if not found:
                    example = _difference(text, repaired)
                found.append(row)
                break
    yield from on_rows(code, severity, found, what, hint, example)


def _difference(before: str, after: str) -> str:
    """Return the first place where two texts differ."""
    pairs = zip(before, after, strict=False)
    at = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(before), len(after)))
    at = max(0, at - 20)
    return f"{before[at : at + 60]!r} → {after[at : at + 60]!r}"


def markup(context: Context) -> Iterator[Finding]:
    """Report debris of web pages outside of code, unless the row is about such."""
    found: list[Row] = []
    example = ""
    for row in context.rows:
        for _, text in row.turns:
            if "<" not in text and "&" not in text:
                continue
            prose = _CODE.sub(" ", text) if "`" in text else text
            match = _TAG.search(prose) or _ENTITY.search(prose)
            if match and not any(_ABOUT_HTML.search(each) for _, each in row.turns):
                example = example or clip(prose[max(0, match.start() - 30) :])
                found.append(row)
                break
    yield from on_rows(
        "markup",
        "warning",
        found,
        "with HTML tags or entities in the text",
        "export the text without markup, or keep it if the model is to write it",
        example,
    )
