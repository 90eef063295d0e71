"""What is seen now: the cluster's words, the workers' records and leases, the routers' reports.

Nothing here outlives the process; all of it is seen again after a restart. ``steady`` times are
those of one clock that never jumps.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec.structs import replace

from caravan.contracts import names
from caravan.contracts.errors import OnHoldError, UnavailableError
from caravan.contracts.instances import DRAINING, READY, Record
from services.scheduler.core.backoff import Backoff, Tries
from services.scheduler.core.cluster import Observed, Ref
from services.scheduler.core.leases import Leases
from services.scheduler.core.routers import QUIET_S, Routers
from services.scheduler.core.rows import DRAIN, RUN, Asked, Named
from services.scheduler.core.sight import Sight
from services.scheduler.core.status import Status, status


class Records(Protocol):
    """The workers' records, e.g. a live view of the bucket."""

    def get(self, key: str) -> Record | None: ...


class World:
    """One process's memory of what it sees; whoever hears something tells it here."""

    def __init__(self, records: Records, steady: float) -> None:
        self.records = records
        self.leases = Leases(steady)
        self.routers = Routers(steady)
        self.tries = Backoff()
        self.observed: dict[Ref, Observed] = {}
        self.cluster_known = False
        """Whether the cluster has answered since the start."""
        self.cluster_silent = ""
        """Why it did not answer when it was asked last; empty: it did."""
        self.judged = False
        """Whether the database has been compared with the epoch that NATS and the cluster know."""
        self.hold = ""
        """Why nothing may be changed; empty: all may, once it is judged."""
        self.away_s = 0.0
        """How long NATS was not heard, as far as no deadline has been moved for it yet."""

    @property
    def free(self) -> bool:
        """Whether this database may decide what runs."""
        return self.judged and not self.hold

    def check_free(self) -> None:
        """Refuse while nothing may be changed."""
        if self.hold:
            raise OnHoldError(f"the scheduler is on hold: {self.hold}")
        if not self.judged:
            raise UnavailableError(
                "the scheduler has just started and has not heard NATS yet: try again in a second"
            )

    def cluster_said(self, observed: Iterable[Observed]) -> None:
        """The cluster answered; what it does not list, it does not know."""
        self.observed = {one.ref: one for one in observed}
        self.cluster_known = True
        self.cluster_silent = ""

    def sights(self, rows: Iterable[Named], steady: float) -> list[Sight]:
        """Return what is known of each instance."""
        return [self._sight(row, steady) for row in rows]

    def status(self, asked: Asked, seen: Sequence[Sight]) -> Status:
        """Return the state of a deployment."""
        return status(asked, seen, self.tries.of(asked.key))

    def forget(self, row: Named) -> None:
        """The instance has ended, and its row goes: until the cluster is asked again, too."""
        self.observed.pop(row.ref, None)
        self.leases.forget(row.key)
        self.routers.forget(row.key)
        self.tries.worked(row.key)

    def _sight(self, row: Named, steady: float) -> Sight:
        key = row.key
        record = self.records.get(key)
        newest = self.leases.newest(key)
        announced = record is not None and record.state in {READY, DRAINING}
        sight = Sight(
            row=row,
            observed=self.observed.get(row.ref),
            cluster_known=self.cluster_known,
            record=record,
            lease=newest.lease if newest else None,
            lease_age_s=steady - newest.at if newest else 0.0,
            silent=announced and self.leases.missing(key, steady),
            in_flight=self.routers.in_flight(key, steady),
            outcome=self.routers.outcome(key),
            ejection=self.routers.ejection(key, steady),
            tries=self.tries.of(key) or self._unstarted(row),
        )
        return replace(sight, empty=self._empty(sight, steady))

    def _unstarted(self, row: Named) -> Tries | None:
        """Return the failures with its deployment, while it has never been started."""
        if row.ref in self.observed or row.wanted != RUN:
            return None
        return self.tries.of(names.deployment_key(row.spec.tenant, row.spec.name))

    def _empty(self, sight: Sight, steady: float) -> bool:
        """Tell whether a drained instance has nothing left: routers first, then its own word."""
        if sight.row.wanted != DRAIN:
            return False
        quiet = self.routers.quiet_since(sight.row.key, steady)
        if quiet is None:
            return False
        return sight.idle or self.leases.idle_twice_since(sight.row.key, quiet + QUIET_S)
