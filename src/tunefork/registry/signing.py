"""Ed25519 signatures over JSON: who says so, and that nobody changed it since.

`home()/keys/signing.pem` is this home's own private key, made on first use and readable by its
owner alone; `signing.pub` beside it is what others check with. A signed object is
`{**body, "signed_by": "ed25519:…", "signature": "…"}`; what is signed is the canonical JSON of all
but the signature. Entry points: `sign`, `check_signature`, `read_signed`, `read_key`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunefork.core.errors import DataError, RunError, UsageError
from tunefork.core.files import home, write_text, writing
from tunefork.core.hashing import canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PREFIX = "ed25519:"
_KEY_BYTES = 32
_MOST_BYTES = 1 << 20  # of a signed file: a card takes a few thousand
_SIGNATURE = "signature"
_SIGNED_BY = "signed_by"


def sign(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object with the name of this home's key, and its signature.

    Raises:
        RunError: The key cannot be read or made.
    """
    key = _own_private_key()
    signed = {**body, _SIGNED_BY: _public_text(key)}
    signature = key.sign(_signed_bytes(signed))
    return {**signed, _SIGNATURE: base64.b64encode(signature).decode()}


def check_signature(signed: Mapping[str, Any], where: Path, key: str | None = None) -> str:
    """Return the public key that an object is signed by.

    Args:
        signed: What `sign` returned, as it was read again.
        where: Its file, for the message.
        key: The public key that must have signed it; None takes the one that it names.

    Raises:
        DataError: It is not signed, signed by another key, or changed since.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    missing = [name for name in (_SIGNED_BY, _SIGNATURE) if not isinstance(signed.get(name), str)]
    if missing:
        parts = " and ".join(f"`{name}`" for name in missing)
        hint = "ask whoever gave it to you for the file as it was written"
        raise DataError(f"it is not signed: {parts} missing", where=where, hint=hint)
    by = _key_text(signed[_SIGNED_BY], where)
    if key is not None and by != key:
        raise DataError(
            f"it is signed by another key: {by}",
            where=where,
            hint=f"asked for was {key}; get card and key from the same owner",
        )
    try:
        signature = base64.b64decode(signed[_SIGNATURE], validate=True)
        Ed25519PublicKey.from_public_bytes(_key_bytes(by)).verify(signature, _signed_bytes(signed))
    except (InvalidSignature, binascii.Error, UnicodeEncodeError) as error:
        raise DataError(
            "the signature does not fit: the file was changed after it was signed",
            where=where,
            hint="do not rely on what it says; get the file anew from its owner",
        ) from error
    return by


def read_signed(path: Path) -> dict[str, Any]:
    """Read a signed file's object; its signature is not looked at.

    Raises:
        DataError: It cannot be read, or is no such object.
    """
    hint = "name a file that `tunefork card` or `tunefork run` wrote"
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DataError("it is too large for a card", where=path, hint=hint)
        value = json.loads(content.decode(), object_pairs_hook=_without_doubles)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path, hint=hint) from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"not a card: {reason}", where=path, hint=hint) from error
    if not isinstance(value, dict):
        raise DataError("not a card: it holds no JSON object", where=path, hint=hint)
    return value


def read_key(given: str) -> str:
    """Return a public key given as `ed25519:…` or as a file that holds it.

    Raises:
        UsageError: It is neither.
    """
    text, path = given, Path(given)
    if not given.startswith(_PREFIX):
        try:
            text = path.read_text(encoding="utf-8")[:1000]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"`{given}` is no public key, and no file with one",
                hint=f"give `{_PREFIX}…`, or the file `signing.pub` of the owner",
            ) from error
    try:
        return _key_text(text.strip(), path)
    except DataError as error:
        raise UsageError(f"`{given}`: {error.message}", hint=error.hint) from error


def own_key() -> str | None:
    """Return this home's public key; None where it never signed anything."""
    path = _private_path()
    return _public_text(_read_private(path)) if path.is_file() else None


def _own_private_key() -> Ed25519PrivateKey:
    path = _private_path()
    if not path.is_file():
        _make_key(path)
    return _read_private(path)


def _private_path() -> Path:
    return home() / "keys" / "signing.pem"


def _make_key(path: Path) -> None:
    """Write a new private key for its owner's eyes only; of two that try, the first wins."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(partial, path)
            except FileExistsError:
                return
        finally:
            partial.unlink()
    write_text(path.with_suffix(".pub"), _public_text(key) + "\n")


def _read_private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"the key that signs cards cannot be read: {reason}",
            where=path,
            hint="bring it back from a backup, or move it away: then a new one is made",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RunError(
            "the key that signs cards is of another kind than Ed25519",
            where=path,
            hint="move it away: then a new one is made",
        )
    return key


def _public_text(key: Ed25519PrivateKey) -> str:
    return _PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _key_text(text: str, where: Path) -> str:
    """Return a public key's text, once it is known to be one."""
    try:
        is_key = text.startswith(_PREFIX) and len(_key_bytes(text)) == _KEY_BYTES
    except binascii.Error:
        is_key = False
    if not is_key:
        hint = f"a key reads `{_PREFIX}` and 44 characters"
        raise DataError("not an Ed25519 public key", where=where, hint=hint)
    return text


def _key_bytes(text: str) -> bytes:
    return base64.b64decode(text.removeprefix(_PREFIX), validate=True)


def _signed_bytes(signed: Mapping[str, Any]) -> bytes:
    return canonical_json({k: v for k, v in signed.items() if k != _SIGNATURE}).encode()


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that says a thing twice: other readers may take the other one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
