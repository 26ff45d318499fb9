"""Keys and tokens, by the shape that each provider gives them.

No entropy is measured: it flags ordinary prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# code: the pattern, and a piece that a text must hold for it to be worth a look.
SECRETS: dict[str, tuple[re.Pattern[str], tuple[str, ...]]] = {
    "secret.aws": (
        re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z2-7]{16}\b"),
        ("AKIA", "ASIA", "AROA", "AIDA"),
    ),
    "secret.aws_key": (
        re.compile(
            r"(?i:aws_?secret(?:_access)?_?key|secret_?access_?key)\W{1,6}([A-Za-z0-9/+=]{40})\b"
        ),
        ("ecret", "ECRET"),
    ),
    "secret.github": (
        re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{40,255})\b"),
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    ),
    "secret.gitlab": (re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"), ("glpat-",)),
    "secret.anthropic": (re.compile(r"\bsk-ant-[A-Za-z0-9_-]{20,}"), ("sk-ant-",)),
    "secret.openai": (
        re.compile(r"\bsk-(?!ant-)(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}"),
        ("sk-",),
    ),
    "secret.huggingface": (re.compile(r"\bhf_[A-Za-z]{34}\b"), ("hf_",)),
    "secret.slack": (
        re.compile(
            r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|https://hooks\.slack\.com/services/T\w+/B\w+/\w+"
        ),
        ("xox", "hooks.slack"),
    ),
    "secret.google": (re.compile(r"\bAIza[A-Za-z0-9_-]{35}(?![\w-])"), ("AIza",)),
    "secret.stripe": (
        re.compile(r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}\b|\bwhsec_[A-Za-z0-9]{24,}\b"),
        ("_live_", "_test_", "whsec_"),
    ),
    "secret.sendgrid": (re.compile(r"\bSG\.[\w-]{16,32}\.[\w-]{32,64}"), ("SG.",)),
    "secret.npm": (re.compile(r"\bnpm_[A-Za-z0-9]{36}\b"), ("npm_",)),
    "secret.pypi": (re.compile(r"\bpypi-AgEI[\w-]{50,}"), ("pypi-",)),
    "secret.telegram": (re.compile(r"\b\d{8,10}:AA[\w-]{33}\b"), (":AA",)),
    "secret.private_key": (
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"(?:.*?-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s]*)",
            re.DOTALL,
        ),
        ("PRIVATE KEY",),
    ),
    "secret.jwt": (
        re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
        ("eyJ",),
    ),
    "secret.url_password": (
        re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:([^\s:/@{}<>$*]{3,128})@[\w.-]+"),
        ("://",),
    ),
}


def find_secrets(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (code, begin, end) of each key or token."""
    for code, (pattern, pieces) in SECRETS.items():
        if any(piece in text for piece in pieces):
            for match in pattern.finditer(text):
                yield code, *match.span(match.lastindex or 0)
