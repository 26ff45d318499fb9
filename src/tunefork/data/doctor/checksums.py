"""The check digits of numbers that name a person, an account or a card."""

from __future__ import annotations

_DNI = "TRWAGMYFPDXBNJZSQVHLCKE"
# Italian codice fiscale: the worth of a letter at an odd place is its place here.
_FISCAL_ODD = "BAKPLCQDREVOSFTGUHMINJWZYX"


def luhn(digits: str) -> bool:
    """Check the last digit by Luhn's rule (ISO/IEC 7812-1)."""
    total = 0
    for at, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + at % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def iban(text: str) -> bool:
    """Check an IBAN without spaces: ISO 13616, modulo 97."""
    moved = text[4:] + text[:4]
    return int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1


def us_ssn(digits: str) -> bool:
    """Check what is never given out; a US number has no check digit."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def spain(text: str) -> bool:
    """Check a DNI or NIE: the number modulo 23 names the letter."""
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return _DNI[int(number) % 23] == text[-1]


def italy(text: str) -> bool:
    """Check a codice fiscale by its last letter."""
    total = 0
    for at, letter in enumerate(text[:15]):
        value = int(letter, 36)
        value = value - 10 if value >= 10 else value  # 0 and A are worth the same
        total += value if at % 2 else _FISCAL_ODD.index(chr(65 + value))
    return chr(65 + total % 26) == text[15]


def brazil(digits: str) -> bool:
    """Check a CPF by its two last digits."""
    if len(set(digits)) == 1:
        return False
    for length in (9, 10):
        total = sum(int(digits[at]) * (length + 1 - at) for at in range(length))
        if total * 10 % 11 % 10 != int(digits[length]):
            return False
    return True


def france(digits: str) -> bool:
    """Check a NIR: 97 minus the number modulo 97 is its key."""
    return 97 - int(digits[:13]) % 97 == int(digits[13:15])


def poland(digits: str) -> bool:
    """Check a PESEL by its last digit, and its month."""
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
    total = sum(int(digits[at]) * weight for at, weight in enumerate(weights))
    month = int(digits[2:4]) % 20
    return (10 - total % 10) % 10 == int(digits[10]) and 1 <= month <= 12


def netherlands(digits: str) -> bool:
    """Check a BSN by the test of eleven."""
    total = sum(int(digits[at]) * (9 - at) for at in range(8)) - int(digits[8])
    return total % 11 == 0 and digits != "000000000"


def sweden(digits: str) -> bool:
    """Check a personnummer of ten digits: Luhn, and a month and day."""
    day = int(digits[4:6])
    return luhn(digits) and 1 <= int(digits[2:4]) <= 12 and 1 <= (day - 60 * (day > 60)) <= 31
