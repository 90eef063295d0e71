"""Alembic's way into the tables of these tests."""

from sqlmodel import SQLModel

from caravan.kit import tables  # noqa: F401 - its import fills the metadata
from caravan.kit.migrations import run_env

run_env(SQLModel.metadata)
