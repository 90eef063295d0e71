"""The tables that every owner has in its own database: history, answers, how far the relay is."""

from typing import Any, ClassVar

import msgspec
from sqlalchemy import Column, Float, Index, Integer, PrimaryKeyConstraint, String, Text
from sqlmodel import Field, SQLModel

from caravan.contracts.events import Event


class EventRow(SQLModel, table=True):
    """One thing that was asked or that happened."""

    __tablename__: ClassVar[Any] = "events"
    __table_args__ = (Index("events_by_name", "tenant", "name", "number"),)

    # Counted by ``record``, not by the database: without gaps, the same on both databases.
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    at: float
    kind: str
    tenant: str
    name: str
    what: str
    actor: str
    detail: str = Field(sa_type=Text)

    def event(self, owner: str) -> Event:
        """Return this row as it is published."""
        return Event(
            number=self.number,
            owner=owner,
            at=self.at,
            kind=self.kind,
            tenant=self.tenant,
            name=self.name,
            what=self.what,
            actor=self.actor,
            detail=msgspec.Raw(self.detail.encode()),
        )


class AnswerRow(SQLModel, table=True):
    """What a request was answered; exactly one of ``answer`` and ``problem`` is set."""

    __tablename__: ClassVar[Any] = "answers"

    tenant: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    at: float = Field(index=True)
    subject: str
    digest: str
    answer: str | None = Field(default=None, sa_type=Text)
    problem: str | None = Field(default=None, sa_type=Text)


class RelayedRow(SQLModel, table=True):
    """How far the relay is, and in which stream: a single row."""

    __tablename__: ClassVar[Any] = "relayed"

    id: int = Field(default=1, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    created: str
    """When the stream was created, as the server says it; tells streams apart."""
    number: int


def create_tables(op: Any) -> None:  # noqa: ANN401 - alembic's ``op``, of no type of its own
    """Make the tables above, in an alembic migration; changes of them come as further functions."""
    op.create_table(
        "events",
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("at", Float, nullable=False),
        *(Column(name, String, nullable=False) for name in ("kind", "tenant", "name", "what")),
        Column("actor", String, nullable=False),
        Column("detail", Text, nullable=False),
    )
    op.create_index("events_by_name", "events", ["tenant", "name", "number"])
    op.create_table(
        "answers",
        Column("tenant", String, nullable=False),
        Column("request_id", String, nullable=False),
        Column("at", Float, nullable=False),
        Column("subject", String, nullable=False),
        Column("digest", String, nullable=False),
        Column("answer", Text, nullable=True),
        Column("problem", Text, nullable=True),
        PrimaryKeyConstraint("tenant", "request_id"),
    )
    op.create_index("ix_answers_at", "answers", ["at"])
    op.create_table(
        "relayed",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("created", String, nullable=False),
        Column("number", Integer, nullable=False),
    )
