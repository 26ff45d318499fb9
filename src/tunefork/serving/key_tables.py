"""The tables of who may ask: organisations, their projects, the projects' keys.

Of a key's secret only a salted hash is kept. A secret has 256 random bits: nobody finds it by
trying, however fast a try is, so the slow hash that a password needs would only make every request
slow.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from tunefork.serving.tables import Row

_ID = String(64)


class OrganisationRow(Row):
    """An organisation."""

    __tablename__ = "organisations"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    name: Mapped[str] = mapped_column(_ID, unique=True)
    created: Mapped[int] = mapped_column(BigInteger)


class ProjectRow(Row):
    """A project; limits count over all of its keys."""

    __tablename__ = "projects"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    organisation_id: Mapped[str] = mapped_column(_ID, index=True)
    name: Mapped[str] = mapped_column(_ID, unique=True)
    created: Mapped[int] = mapped_column(BigInteger)
    requests_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)


class KeyRow(Row):
    """A key. After a rotation the secret before may be good for a while yet."""

    __tablename__ = "keys"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    project_id: Mapped[str] = mapped_column(_ID, index=True)
    name: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    salt: Mapped[str] = mapped_column(_ID)
    digest: Mapped[str] = mapped_column(_ID)
    previous_salt: Mapped[str | None] = mapped_column(_ID)
    previous_digest: Mapped[str | None] = mapped_column(_ID)
    previous_until: Mapped[int | None] = mapped_column(BigInteger)
    created: Mapped[int] = mapped_column(BigInteger)
    expires: Mapped[int | None] = mapped_column(BigInteger)
    revoked: Mapped[int | None] = mapped_column(BigInteger)
    requests_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
