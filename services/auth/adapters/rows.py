"""Auth's tables, beside the history of ``caravan.kit.tables``."""

from typing import Any, ClassVar

from sqlalchemy import JSON, Column, Index, Integer
from sqlmodel import Field, SQLModel

from caravan.kit.tables import AnswerRow, EventRow, RelayedRow

__all__ = ["AnswerRow", "EventRow", "HoldRow", "KeyRow", "RelayedRow", "TenantRow"]


class TenantRow(SQLModel, table=True):
    """Who owns things."""

    __tablename__: ClassVar[Any] = "tenants"

    id: str = Field(primary_key=True)
    label: str
    created_at: float


class KeyRow(SQLModel, table=True):
    """An API key; of its secret only the digest is kept."""

    __tablename__: ClassVar[Any] = "keys"
    __table_args__ = (Index("keys_by_tenant", "tenant", "id"),)

    id: str = Field(primary_key=True)
    digest: str = Field(index=True, unique=True)
    tenant: str = Field(foreign_key="tenants.id")
    label: str
    hint: str
    scopes: list[str] = Field(sa_type=JSON)
    """Names of deployments; empty: all of the tenant's."""
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class HoldRow(SQLModel, table=True):
    """There while auth is on hold: a single row."""

    __tablename__: ClassVar[Any] = "holds"

    id: int = Field(default=1, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    reason: str
    epoch: int
