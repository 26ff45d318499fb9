"""Files, data and its versions, specs, bases, and runs."""

import sqlalchemy as sa
from alembic import op

revision = "data_and_runs"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "blobs",
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("is_kept", sa.Boolean(), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "folders",
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "specs",
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.Column("content", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "bases",
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("revision", sa.String(length=255), nullable=True),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["hash"],
            ["folders.hash"],
        ),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "dataset_versions",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("dataset", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parent", sa.String(length=255), nullable=True),
        sa.Column("changes", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("folder_hash", sa.String(length=71), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"],
            ["datasets.name"],
        ),
        sa.ForeignKeyConstraint(
            ["folder_hash"],
            ["folders.hash"],
        ),
        sa.ForeignKeyConstraint(
            ["parent"],
            ["dataset_versions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_dataset_versions_dataset"), "dataset_versions", ["dataset"], unique=False
    )
    op.create_table(
        "folder_files",
        sa.Column("folder_hash", sa.String(length=71), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("blob_hash", sa.String(length=71), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["blob_hash"],
            ["blobs.hash"],
        ),
        sa.ForeignKeyConstraint(
            ["folder_hash"],
            ["folders.hash"],
        ),
        sa.PrimaryKeyConstraint("folder_hash", "name"),
    )
    op.create_index(op.f("ix_folder_files_blob_hash"), "folder_files", ["blob_hash"], unique=False)
    op.create_table(
        "runs",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("identity", sa.String(length=71), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("spec_hash", sa.String(length=71), nullable=False),
        sa.Column("base_hash", sa.String(length=71), nullable=False),
        sa.Column("data_hash", sa.String(length=71), nullable=False),
        sa.Column("code_hash", sa.String(length=71), nullable=False),
        sa.Column("environment", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("folder_hash", sa.String(length=71), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["base_hash"],
            ["bases.hash"],
        ),
        sa.ForeignKeyConstraint(
            ["folder_hash"],
            ["folders.hash"],
        ),
        sa.ForeignKeyConstraint(
            ["spec_hash"],
            ["specs.hash"],
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "run_datasets",
        sa.Column("run", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("version", sa.String(length=255), nullable=False),
        sa.Column("row_hash", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.name"],
        ),
        sa.ForeignKeyConstraint(
            ["version"],
            ["dataset_versions.id"],
        ),
        sa.PrimaryKeyConstraint("run", "role"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("run_datasets")
    op.drop_table("runs")
    op.drop_table("folder_files")
    op.drop_table("dataset_versions")
    op.drop_table("bases")
    op.drop_table("specs")
    op.drop_table("folders")
    op.drop_table("datasets")
    op.drop_table("blobs")
