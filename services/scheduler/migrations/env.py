"""Alembic's way in: ``caravan.kit.sql`` hands the connection over."""

from sqlmodel import SQLModel

from caravan.kit.migrations import run_env
from services.scheduler.adapters import tables

METADATA = SQLModel.metadata
OWN = (tables.DeploymentRow, tables.InstanceRow, tables.FactRow)

run_env(METADATA)
