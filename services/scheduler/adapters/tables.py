"""The scheduler's own tables, beside the kit's ``events``, ``answers`` and ``relayed``."""

from typing import Any, ClassVar

import msgspec
from sqlalchemy import Text
from sqlmodel import Field, SQLModel

from caravan.contracts.instances import Spec
from services.scheduler.core.rows import Asked, Named


class DeploymentRow(SQLModel, table=True):
    """What was asked of one deployment."""

    __tablename__: ClassVar[Any] = "deployments"

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    task: str
    source: str = Field(sa_type=Text)
    engine_args: str = Field(sa_type=Text)
    """JSON"""
    resources: str = Field(sa_type=Text)
    """JSON"""
    instances: int
    last_instances: int
    generation: int
    drain_s: float
    stall_s: float
    in_place: bool
    created_at: float
    updated_at: float
    deleted_at: float = Field(index=True)
    held: bool
    event: int

    def asked(self) -> Asked:
        fields = self.model_dump()
        fields["engine_args"] = msgspec.json.decode(self.engine_args)
        fields["resources"] = msgspec.json.decode(self.resources)
        return msgspec.convert(fields, Asked)

    @classmethod
    def of(cls, asked: Asked) -> "DeploymentRow":
        fields = msgspec.structs.asdict(asked)
        fields["engine_args"] = msgspec.json.encode(asked.engine_args).decode()
        fields["resources"] = msgspec.json.encode(asked.resources).decode()
        return cls(**fields)


class InstanceRow(SQLModel, table=True):
    """An instance that was named; kept until the cluster has shown its end."""

    __tablename__: ClassVar[Any] = "instances"

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    instance: str = Field(primary_key=True)
    spec: str = Field(sa_type=Text)
    """JSON, as it was rendered when the instance was named"""
    wanted: str
    deadline: float
    named_at: float

    def named(self) -> Named:
        return Named(
            spec=msgspec.json.decode(self.spec, type=Spec),
            wanted=self.wanted,
            deadline=self.deadline,
            named_at=self.named_at,
        )

    @classmethod
    def of(cls, named: Named) -> "InstanceRow":
        return cls(
            tenant=named.spec.tenant,
            name=named.spec.name,
            instance=named.instance,
            spec=msgspec.json.encode(named.spec).decode(),
            wanted=named.wanted,
            deadline=named.deadline,
            named_at=named.named_at,
        )


class FactRow(SQLModel, table=True):
    """The few things of which there is one: ``installation``, ``hold``."""

    __tablename__: ClassVar[Any] = "facts"

    name: str = Field(primary_key=True)
    value: str = Field(sa_type=Text)
