"""Evaluations of one model alone: a score, and no verdict."""

import sqlalchemy as sa
from alembic import op

revision = "measured_alone"
down_revision = "models_and_aliases"

_WORD = sa.String(length=32)


def upgrade() -> None:
    """Let an evaluation have no verdict."""
    with op.batch_alter_table("evaluations") as batch:
        batch.alter_column("verdict", existing_type=_WORD, nullable=True)


def downgrade() -> None:
    """Drop those that have none."""
    op.execute("DELETE FROM evaluations WHERE verdict IS NULL")
    with op.batch_alter_table("evaluations") as batch:
        batch.alter_column("verdict", existing_type=_WORD, nullable=False)
