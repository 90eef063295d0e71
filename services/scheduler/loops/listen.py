"""What is heard on the bus, told to the world; wakes the loop where it may matter."""

from collections.abc import Callable

import structlog

from caravan.contracts.instances import Lease, Record
from caravan.contracts.reports import Report
from services.scheduler.core.world import World

log = structlog.get_logger()


class Listener:
    """The callbacks of the views, the reports and the connection; none of them blocks."""

    def __init__(
        self,
        world: World,
        *,
        wake: Callable[[], None],
        suspect: Callable[[], None],
        steady: Callable[[], float],
        lease_stream: Callable[[], str],
    ) -> None:
        """``suspect``: the bucket may be another; ``lease_stream`` tells lease streams apart."""
        self._world = world
        self._wake = wake
        self._suspect = suspect
        self._steady = steady
        self._lease_stream = lease_stream
        self._stream = ""
        self._lost_at: float | None = steady()

    def record(self, _key: str, _record: Record | None) -> None:
        """A worker wrote its record, or it was deleted."""
        self._wake()

    def lease_written(self, key: str, lease: Lease, revision: int) -> None:
        """A worker renewed its lease."""
        new = self._world.leases.newest(key) is None
        self._look_at_stream()
        self._world.leases.renewed(key, lease, revision, self._steady())
        if new or self._world.routers.watches(key):
            self._wake()

    def lease_changed(self, key: str, lease: Lease | None) -> None:
        """A lease has other words than before, or ran out."""
        if lease is not None:
            return
        self._look_at_stream()
        self._world.leases.lapsed(key, self._steady())
        self._wake()

    def report(self, report: Report) -> None:
        """A router process reported."""
        self._world.routers.heard(report, self._steady())
        if self._world.routers.draining():
            self._wake()

    def lost(self) -> None:
        """The connection to NATS broke."""
        self._world.leases.broke()
        if self._lost_at is None:
            self._lost_at = self._steady()

    def back(self) -> None:
        """The connection stands, for the first time or again."""
        now = self._steady()
        if self._lost_at is not None:
            self._world.away_s += now - self._lost_at
        self._lost_at = None
        self._world.leases.back(now)
        self._world.routers.listening(now)
        self._suspect()
        self._wake()

    def _look_at_stream(self) -> None:
        stream = self._lease_stream()
        if stream and stream != self._stream:
            self._world.leases.back(self._steady())
            self._stream = stream
