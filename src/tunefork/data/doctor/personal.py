"""Personal data by its shape, with check digits where there are any, and by the words around it.

Names and addresses are not looked for: they need a model, and are wrong too often.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from tunefork.data.doctor import checksums

Found = tuple[str, int, int]  # code, begin, end

_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.)+[^\W\d_]{2,24}(?![\w@-])"
)
_URL = re.compile(r"\b(?:https?://|ftp://|www\.)[^\s<>\"'{}|\\^`\[\]]{3,2000}", re.IGNORECASE)
_AFTER_URL = ".,;:!?'\"*"  # marks that end a sentence, not an address
_IBAN = re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){11,18}(?![\w-]|\.\d)")
_IPV4 = re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w]|\.\d)"
)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{2,39}(?![\w:])")
_VERSION = re.compile(r"(?:version|release|v|ver\.?|firmware|section|§)\s*$", re.IGNORECASE)

# Countries and the length of their IBAN (ISO 13616 registry).
_IBAN_LENGTHS = dict(
    re.findall(
        r"([A-Z]{2}):(\d\d)",
        "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 "
        "DE:22 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 "
        "HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 "
        "LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MR:27 MT:31 MU:30 NL:18 NO:15 PK:24 PL:28 PS:29 PT:25 "
        "QA:29 RO:24 RS:22 SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 ST:25 SV:28 TL:23 TN:24 TR:26 "
        "UA:29 VA:22 VG:24 XK:20",
    )
)
# Which card numbers are given out: their beginning and their lengths (ISO/IEC 7812).
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|(?:2131|1800)\d{11}|35\d{14}"
    r"|6(?:011|5\d\d|4[4-9]\d)(?:\d{12}|\d{15})|(?:50|5[6-9]|6\d)\d{10,17}"
)

_PHONE = re.compile(
    r"(?<![\w.,:/#=$€£@+-])"
    r"(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?\d{1,12}"
    r"(?:[ .-]{1,2}\d{1,8}|[ .-]?\(\d{1,4}\) ?\d{1,8}){0,6}"
    r"(?:\s?(?:x|ext\.?|extension)\s?\d{1,5})?"
    r"(?![\w]|[.,:/]\d|[%€£$])",
    re.IGNORECASE,
)
_STRONG = re.compile(
    r"\+\d[\d ().-]{7,20}"  # with a country
    r"|00[1-9]\d?[ .-]\d[\d ().-]{6,18}"
    r"|001-\d{3}-\d{3}-\d{4}"
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])\d{3}[.-]\d{4}"  # North America
    r"|[1-9]\d\d[.-]\d{3}[.-]\d{4}"
    r"|\(0?\d{1,4}\)[ -]?\d{3,4}[ -]\d{3,4}"
    r"|0\d(?:[ .-]\d\d){4}"  # France
    r"|0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}|0\d{2,4}(?:[ -]\d{2,4}){2,4}"  # a trunk prefix
)
_EXTENSION = re.compile(r"\s?(?:x|ext\.?|extension)\s?\d{1,5}$", re.IGNORECASE)
_BEFORE = re.compile(
    r"(?:phone|telephone|\btel\b|\bcall(?:ing|ed)?\b|\bfax\b|mobile|\bcell(?:phone)?\b|desk|office|\bring\b|"
    r"whatsapp|\breach\b|\bdial|\btext (?:me|us)\b|messages? (?:to|on)|answering at|my registered|"
    r"contact|hotline|\bsms\b|handy|telefon|téléphone|teléfono)[^\d]{0,24}$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"^[ ,\\-]{0,3}(?:office|fax|mobile|desk|home|cell|work|phone)\b", re.IGNORECASE
)
_SSN = re.compile(r"\d{3}-\d{2}-\d{4}")
_DATE = re.compile(
    r"(?:19|20)\d\d[ .-]\d{1,2}[ .-]\d{1,2}(?:\D|$)|\d{1,2}[ .-]\d{1,2}[ .-](?:19|20)\d\d$"
    r"|(?:19|20)\d\d ?- ?(?:19|20)\d\d$"
)


def find_personal(text: str) -> list[Found]:
    """Return (code, begin, end) of each piece of personal data, in order, none overlapping."""
    taken: list[Found] = []
    has_digits = sum(map(text.count, "0123456789")) >= 3
    for code, needs_digits, find in _FINDERS:
        if needs_digits and not has_digits:
            continue
        for begin, end in find(text):
            if all(end <= other[1] or begin >= other[2] for other in taken):
                taken.append((code, begin, end))
    return sorted(taken, key=lambda found: found[1])


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield match.span()


def _urls(text: str) -> Iterator[tuple[int, int]]:
    if "://" in text or "www." in text.lower():
        for match in _URL.finditer(text):
            url = match.group().rstrip(_AFTER_URL)
            while url.endswith(")") and url.count(")") > url.count("("):
                url = url[:-1].rstrip(_AFTER_URL)
            yield match.start(), match.start() + len(url)


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        # Words that follow may look like a part of it: the country says how long it is.
        length = int(_IBAN_LENGTHS.get(match.group()[:2].upper(), 0))
        end, kept = match.start(), ""
        for letter in match.group():
            if len(kept) == length:
                break
            end += 1
            kept += letter if letter not in " -" else ""
        is_cut = text[end : end + 1].isalnum()
        if length and len(kept) == length and not is_cut and checksums.iban(kept.upper()):
            yield match.start(), end


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        is_card = _ISSUERS.fullmatch(digits) and checksums.luhn(digits)
        if is_card and len(set(digits)) > 1:
            yield match.span()


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    for match in _IPV4.finditer(text):
        parts = match.group().split(".")
        is_padded = any(len(part) > 1 and part[0] == "0" for part in parts)
        if not is_padded and not _VERSION.search(text[: match.start()][-12:]):
            yield match.span()
    if text.count(":") < 2:
        return
    for match in _IPV6.finditer(text):
        found = match.group()
        if found.count(":") < 2 or not any(letter.isdigit() for letter in found):
            continue
        try:
            ipaddress.IPv6Address(found)
        except ValueError:
            continue
        if len(found) > 4:
            yield match.span()


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text):
        number = match.group()
        digits = re.sub(r"\D", "", _EXTENSION.sub("", number))
        is_other = _DATE.match(number) or _SSN.fullmatch(number)
        if not 7 <= len(digits) <= 15 or is_other or len(set(digits)) < 3:
            continue
        base = _EXTENSION.sub("", number)
        if _STRONG.fullmatch(base) or (
            len(digits) <= 12
            and (
                _BEFORE.search(text[max(0, match.start() - 40) : match.start()])
                or _AFTER.match(text[match.end() : match.end() + 12])
            )
        ):
            yield match.span()


def _national_ids(text: str) -> Iterator[tuple[int, int]]:
    for pattern, context, check in _NATIONAL:
        for match in pattern.finditer(text):
            value = re.sub(r"\W", "", match.group()).upper()
            near = text[max(0, match.start() - 60) : match.start()]
            if context is not None and not context.search(near):
                continue
            if check(value):
                yield match.span()


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


# Pattern, words that must stand before it where the shape alone says too little, check digits.
_NATIONAL: tuple[tuple[re.Pattern[str], re.Pattern[str] | None, Callable[[str], bool]], ...] = (
    (re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), None, checksums.us_ssn),
    (
        re.compile(r"(?<![\w-])\d{3} ?\d{2} ?\d{4}(?![\w-])"),
        _words(r"\bssn\b|social security"),
        checksums.us_ssn,
    ),
    (re.compile(r"\b(?:\d{8}|[XYZ]\d{7})-?[A-HJ-NP-TV-Z]\b"), None, checksums.spain),
    (
        re.compile(r"\b[A-Z]{6}\d\d[ABCDEHLMPRST]\d\d[A-Z]\d{3}[A-Z]\b", re.IGNORECASE),
        None,
        checksums.italy,
    ),
    (re.compile(r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)"), None, checksums.brazil),
    (
        re.compile(r"(?<!\w)[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?\d\d ?\d{3} ?\d{3} ?\d\d(?!\w)"),
        None,
        checksums.france,
    ),
    (re.compile(r"(?<!\w)\d{11}(?!\w)"), _words(r"\bpesel\b"), checksums.poland),
    (
        re.compile(r"(?<!\w)\d{9}(?!\w)"),
        _words(r"\bbsn\b|burgerservicenummer|sofinummer"),
        checksums.netherlands,
    ),
    (
        re.compile(r"(?<![\w-])\d{6}[-+]\d{4}(?![\w-])"),
        None,
        checksums.sweden,
    ),
    (
        re.compile(r"(?<![\w-])\d{3}[ -]\d{3}[ -]\d{3}(?![\w-])"),
        _words(r"\bsin\b|social insurance"),
        checksums.luhn,
    ),
)
# In this order: what is found first is not taken for something else.
_FINDERS: tuple[tuple[str, bool, Callable[[str], Iterator[tuple[int, int]]]], ...] = (
    ("pii.url", False, _urls),
    ("pii.email", False, _emails),
    ("pii.iban", True, _ibans),
    ("pii.national_id", True, _national_ids),
    ("pii.card", True, _cards),
    ("pii.ip", True, _addresses),
    ("pii.phone", True, _phones),
)
