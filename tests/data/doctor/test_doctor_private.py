"""Personal data, keys and tokens: what is found, what is left alone, and how it is masked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefork.data.doctor.personal import find_personal
from tunefork.data.doctor.private import find_private, mask

# None of these belongs to anybody: numbers from documentation, with right check digits.
FOUND = [
    (
        "pii.email",
        "Write to jane.doe+x@mail.example.co.uk, please",
        "jane.doe+x@mail.example.co.uk",
    ),
    ("pii.email", "Müller: müller@beispiel.de.", "müller@beispiel.de"),
    ("pii.url", "See https://example.org/a?b=(c), then", "https://example.org/a?b=(c)"),
    ("pii.url", "(at www.example.org).", "www.example.org"),
    ("pii.card", "card 4111 1111 1111 1111 expires", "4111 1111 1111 1111"),
    ("pii.card", "paid with 378282246310005", "378282246310005"),
    ("pii.iban", "to GB82 WEST 1234 5698 7654 32 today", "GB82 WEST 1234 5698 7654 32"),
    ("pii.iban", "DE89370400440532013000", "DE89370400440532013000"),
    ("pii.ip", "from 192.0.2.17 at", "192.0.2.17"),
    ("pii.ip", "from 2001:db8:85a3::8a2e:370:7334.", "2001:db8:85a3::8a2e:370:7334"),
    ("pii.phone", "Call (555) 123-4567 now", "(555) 123-4567"),
    ("pii.phone", "+44 20 7946 0958", "+44 20 7946 0958"),
    ("pii.phone", "phone: 467 3395", "467 3395"),
    ("pii.phone", "at 555-123-4567 x12.", "555-123-4567 x12"),
    ("pii.national_id", "my SSN is 078-05-1120.", "078-05-1120"),
    ("pii.national_id", "DNI 12345678Z", "12345678Z"),
    ("pii.national_id", "CPF 529.982.247-25", "529.982.247-25"),
    ("pii.national_id", "RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    ("pii.national_id", "PESEL 44051401359", "44051401359"),
    ("pii.national_id", "BSN: 111222333", "111222333"),
    ("pii.national_id", "811218-9876", "811218-9876"),
    ("pii.national_id", "SIN 046 454 286", "046 454 286"),
    ("pii.national_id", "2 55 08 14 168 025 38", "2 55 08 14 168 025 38"),
]
LEFT_ALONE = [
    "order 113542617735902 and 00004587345",
    "on 2024-01-31, at 10:45:30, or 31.12.2024",
    "version 1.2.3.4 and section 10.1.2.3",
    "card 4111 1111 1111 1112",
    "GB82 WEST 1234 5698 7654 33",
    "SSN 000-12-3456 or 666-12-3456",
    "12345678A",
    "@someone wrote a@b",
    "3.14159265358979 and 1,234,567.89",
    "$ 1234567, 7500000 people, 1 000 000 km",
    "call 911 or 112",
    "<<3600-1200=2400>>2400",
    "{{Customer Support Phone Number}}",
    "1990 - 2005",
    "std::vector<int> a::b::c 12::",
]
SECRETS = [
    ("secret.aws", "AKIAIOSFODNN7EXAMPLE"),
    ("secret.github", "ghp_" + "a1B2" * 9),
    ("secret.github", "github_pat_" + "a1B2_" * 10),
    ("secret.gitlab", "glpat-" + "a1B2" * 5),
    ("secret.openai", "sk-proj-" + "a1B2" * 8),
    ("secret.anthropic", "sk-ant-api03-" + "a1B2" * 8),
    ("secret.huggingface", "hf_" + "aBcD" * 8 + "ab"),
    ("secret.slack", "xoxb-123456789012-abcdefGHIJKL"),
    ("secret.google", "AIza" + "a1B2c" * 7),
    ("secret.stripe", "sk_live_" + "a1B2" * 6),
    ("secret.sendgrid", "SG." + "a1B2" * 5 + "." + "a1B2" * 10),
    ("secret.npm", "npm_" + "a1B2" * 9),
    ("secret.telegram", "123456789:AA" + "a1B" * 11),
    ("secret.jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLWhlcmU"),
    ("secret.private_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"),
]


@pytest.mark.parametrize(("code", "text", "value"), FOUND)
def test_found(code: str, text: str, value: str) -> None:
    assert [(each, text[begin:end]) for each, begin, end in find_personal(text)] == [(code, value)]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_left_alone(text: str) -> None:
    assert find_private(text) == []


@pytest.mark.parametrize(("code", "secret"), SECRETS)
def test_secrets(code: str, secret: str) -> None:
    text = f"the key is {secret} ."
    assert [(each, text[begin:end]) for each, begin, end in find_private(text)] == [(code, secret)]
    assert mask(text) == ("the key is [SECRET] .", [code])


def test_a_password_in_an_address() -> None:
    assert mask("postgres://me:hunter22@db.example.org/x")[0] == (
        "postgres://me:[SECRET]@db.example.org/x"
    )


def test_prose_about_keys_holds_no_secret() -> None:
    for text in ("sk-learn and sk-ip", "the task-oriented-dialogue-of-a-large-model", "AKIA"):
        assert mask(text) == (text, [])


def test_a_mask_is_not_masked_again_and_addresses_of_pages_stay() -> None:
    masked, codes = mask("joe@example.org, 192.0.2.1, https://example.org")
    assert masked == "[EMAIL], [IP], https://example.org"
    assert codes == ["pii.email", "pii.ip"]
    assert mask(masked) == (masked, [])


@given(st.text(alphabet="0123456789 -.()+:@/xabAGB٣²", max_size=60) | st.text(max_size=60))
def test_any_text_has_places_in_order_that_do_not_overlap(text: str) -> None:
    found = find_private(text)
    last = 0
    for _, begin, end in found:
        assert last <= begin < end <= len(text)
        last = end
    mask(text)
