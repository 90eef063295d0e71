"""One instance as its row, the cluster, its worker and the routers tell of it."""

from msgspec import Struct

from caravan.contracts.deployments import DRAIN as DRAIN_WORD
from caravan.contracts.deployments import SERVE, SUSPECT, Verdict
from caravan.contracts.instances import DRAINING, READY, Lease, Record
from caravan.contracts.reports import InstanceUse
from services.scheduler.core.backoff import Tries
from services.scheduler.core.cluster import ENDED, RUNNING, Observed
from services.scheduler.core.routers import Ejection
from services.scheduler.core.rows import RUN, Named


class Sight(Struct, frozen=True, kw_only=True):
    """What is known of one instance now."""

    row: Named
    observed: Observed | None = None
    """None: the cluster does not know it, or was not asked yet."""
    cluster_known: bool = True
    """Whether the cluster has answered since the start; until then records count alone."""
    record: Record | None = None
    lease: Lease | None = None
    lease_age_s: float = 0.0
    silent: bool = False
    """Its lease is missing, and that is not the bus's fault."""
    in_flight: int = 0
    """Over all live routers."""
    outcome: InstanceUse | None = None
    """The newest that a router had there."""
    ejection: Ejection | None = None
    """By those routers that failed there too often; the others go on."""
    empty: bool = False
    """Drained: nobody sends it anything, and it works on nothing."""
    tries: Tries | None = None
    """The scheduler's own failures with it, beside those that the cluster counts."""

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs; the cluster's word, over record and lease."""
        if not self.cluster_known:
            return False
        return self.observed is None or self.observed.state == ENDED

    @property
    def usable(self) -> bool:
        """Whether routers send requests there."""
        return (
            self.row.wanted == RUN
            and self.runs
            and self.record is not None
            and self.record.state == READY
            and self.record.generation == self.row.generation
            and not self.outlived
        )

    @property
    def outlived(self) -> bool:
        """Whether the record is an earlier life's: its worker died, and the next has said nothing.

        Without it, what was killed and started again would count as ready too early.
        """
        life = self.observed.allocation if self.observed else ""
        said = self.record.allocation if self.record else ""
        return bool(life and said) and life != said

    @property
    def runs(self) -> bool:
        """Whether the cluster says that it runs; until the cluster is heard, it may."""
        if not self.cluster_known:
            return True
        return self.observed is not None and self.observed.state == RUNNING

    @property
    def healthy(self) -> bool:
        """Whether it is usable and shows that it lives."""
        return self.usable and not self.silent

    @property
    def idle(self) -> bool:
        """Whether it surely serves nobody. A record that is missing proves nothing: the bucket
        may have been emptied while the engine serves on."""
        if not self.runs:
            return True
        return self.record is not None and self.record.state not in {READY, DRAINING}

    @property
    def failures(self) -> int:
        """Failed lives and tries in a row."""
        counted = self.observed.failures if self.observed else 0
        return max(counted, self.tries.failures if self.tries else 0)

    @property
    def verdict(self) -> Verdict:
        """What the bucket says of it."""
        if self.row.wanted != RUN:
            return Verdict(word=DRAIN_WORD, deadline=self.row.deadline)
        return Verdict(word=SUSPECT if self.silent else SERVE)
