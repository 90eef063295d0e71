"""The two kinds of rows that only the scheduler writes: what was asked, and the named instances.

An instance's ``wanted`` goes one way: ``run`` → ``drain`` → ``gone``; then its row is removed,
once the cluster shows that it has ended.
"""

from msgspec import Struct

from caravan.contracts import names
from caravan.contracts.instances import Spec
from services.scheduler.core.cluster import Ref

RUN = "run"
DRAIN = "drain"
GONE = "gone"

TRASH_S = 24 * 3600.0
"""How long what was deleted can be restored."""


class Asked(Struct, frozen=True, kw_only=True):
    """A deployment as its tenant asked for it. Times are seconds since the epoch."""

    tenant: str
    name: str
    task: str
    source: str
    instances: int
    """0 is stopped."""
    last_instances: int = 1
    """What ``start`` goes back to."""
    engine_args: list[str] = []
    resources: dict[str, float] = {}
    generation: int = 1
    drain_s: float = 120.0
    stall_s: float = 120.0
    in_place: bool = False
    """The newest change of generation drains each old instance before its successor starts."""
    created_at: float = 0.0
    updated_at: float = 0.0
    deleted_at: float = 0.0
    """0: it is not in the trash."""
    held: bool = False
    """A person froze it."""
    event: int = 0
    """The number of its newest event row."""

    @property
    def key(self) -> str:
        """Its key in the bucket ``deployments``."""
        return names.deployment_key(self.tenant, self.name)

    @property
    def restorable_until(self) -> float:
        """When the trash forgets it; 0 when it is not in there."""
        return self.deleted_at + TRASH_S if self.deleted_at else 0.0

    def spec(self, instance: str) -> Spec:
        """Return what an instance of this name is told; it never changes afterwards."""
        return Spec(
            tenant=self.tenant,
            name=self.name,
            instance=instance,
            generation=self.generation,
            task=self.task,
            source=self.source,
            engine_args=self.engine_args,
            drain_s=self.drain_s,
            stall_s=self.stall_s,
            resources=self.resources,
        )


class Named(Struct, frozen=True, kw_only=True):
    """An instance that the scheduler named; the row is written before anybody hears of it."""

    spec: Spec
    wanted: str = RUN
    deadline: float = 0.0
    """When its drain ends at the latest, seconds since the epoch; 0 when it is not drained."""
    named_at: float = 0.0

    @property
    def ref(self) -> Ref:
        return Ref(self.spec.tenant, self.spec.name, self.spec.instance)

    @property
    def instance(self) -> str:
        return self.spec.instance

    @property
    def generation(self) -> int:
        return self.spec.generation

    @property
    def key(self) -> str:
        """Its key in the buckets ``instances`` and ``leases``."""
        return names.instance_key(self.spec.tenant, self.spec.name, self.spec.instance)
