"""Alembic's way in; ``caravan.kit.migrations`` hands the connection over."""

from sqlmodel import SQLModel

from caravan.kit.migrations import run_env
from services.auth.adapters import rows  # noqa: F401 - its import fills the metadata

run_env(SQLModel.metadata)
