"""Deployments, instances, facts; and the kit's events, answers and relayed."""

import sqlalchemy as sa
from alembic import op

from caravan.kit.outbox import create_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_tables(op)
    op.create_table(
        "deployments",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("engine_args", sa.Text(), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("last_instances", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("drain_s", sa.Float(), nullable=False),
        sa.Column("stall_s", sa.Float(), nullable=False),
        sa.Column("in_place", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("event", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name"),
    )
    op.create_index("ix_deployments_deleted_at", "deployments", ["deleted_at"])
    op.create_table(
        "instances",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("wanted", sa.String(), nullable=False),
        sa.Column("deadline", sa.Float(), nullable=False),
        sa.Column("named_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", "instance"),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
