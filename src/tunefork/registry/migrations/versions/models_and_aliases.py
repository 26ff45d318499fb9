"""Models as bundles, what was measured of them, and their aliases."""

import sqlalchemy as sa
from alembic import op

revision = "models_and_aliases"
down_revision = "data_and_runs"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "models",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("base_hash", sa.String(length=71), nullable=False),
        sa.Column("run", sa.String(length=255), nullable=True),
        sa.Column("weights_hash", sa.String(length=71), nullable=True),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("examples", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("index_hash", sa.String(length=71), nullable=True),
        sa.Column("decoding", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("bundle_hash", sa.String(length=71), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["base_hash"],
            ["bases.hash"],
        ),
        sa.ForeignKeyConstraint(
            ["index_hash"],
            ["folders.hash"],
        ),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.name"],
        ),
        sa.ForeignKeyConstraint(
            ["weights_hash"],
            ["folders.hash"],
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "alias_events",
        sa.Column("alias", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("previous_hash", sa.String(length=71), nullable=True),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.name"],
        ),
        sa.PrimaryKeyConstraint("alias", "number"),
    )
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("golden", sa.String(length=255), nullable=True),
        sa.Column("verdict", sa.String(length=32), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["golden"],
            ["dataset_versions.id"],
        ),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_evaluations_model"), "evaluations", ["model"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_table("evaluations")
    op.drop_table("alias_events")
    op.drop_table("models")
