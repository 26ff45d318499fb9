"""Attempts on the same sealed questions."""

import sqlalchemy as sa
from alembic import op

revision = "sealed_attempts"
down_revision = "measured_alone"

_HASH = sa.String(length=71)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "attempts",
        sa.Column("questions_hash", _HASH, nullable=False),
        sa.Column("answers_hash", _HASH, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("questions", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_hash", _HASH, nullable=False),
        sa.PrimaryKeyConstraint("questions_hash", "answers_hash"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("attempts")
