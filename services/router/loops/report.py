"""What this router process says of itself: each second, and when it is asked."""

import asyncio
import time
from typing import Protocol

import msgspec
import structlog

from caravan.contracts import topology
from caravan.contracts.admin import RouterStatus
from caravan.contracts.reports import Position, Report
from services.router.core.inflight import InFlight
from services.router.core.outliers import Outliers, noted

EVERY_S = 1.0
OLD_S = 30.0
"""From this age on a view is worth a warning."""
log = structlog.get_logger()


class Bus(Protocol):
    async def publish(self, subject: str, value: msgspec.Struct) -> None: ...


class Views(Protocol):
    def positions(self) -> dict[str, Position]: ...

    def prune(self) -> list[str]: ...


class Reporter:
    """Reports one life of a router process; ``run`` names it."""

    def __init__(
        self, run: str, bus: Bus, views: Views, in_flight: InFlight, outliers: Outliers
    ) -> None:
        self._run, self._bus, self._views = run, bus, views
        self._in_flight, self._outliers = in_flight, outliers
        self._number = 0
        self._warned = False

    def report(self, *, leaving: bool = False) -> Report:
        """Return a report of now.

        Candidates are chosen and counted without a pause from the views whose positions it
        carries: what a view says at these positions is obeyed.
        """
        self._number += 1
        return Report(
            run=self._run,
            number=self._number,
            at=time.time(),
            positions=self._views.positions(),
            deployments=self._in_flight.deployments(),
            instances=noted(self._in_flight.instances(), self._outliers.seen()),
            keys=self._in_flight.keys(),
            leaving=leaving,
        )

    async def send(self, *, leaving: bool = False) -> None:
        """Report once; lost when NATS is away."""
        await self._bus.publish(f"{topology.REPORT}.{self._run}", self.report(leaving=leaving))

    async def repeat(self) -> None:
        """Report each second until cancelled; by the way, look after the views."""
        while True:
            await asyncio.sleep(EVERY_S)
            for key in self._views.prune():
                log.info("view.pruned", instance=key)
            self._warn_of_age()
            await self.send()

    def status(self, url: str) -> RouterStatus:
        """Return the answer to ``caravan.router.status``."""
        report = msgspec.Raw(msgspec.json.encode(self.report()))
        return RouterStatus(run=self._run, url=url, report=report)

    def _warn_of_age(self) -> None:
        ages = {name: where.age_s for name, where in self._views.positions().items()}
        old = {name: round(age) for name, age in ages.items() if age > OLD_S}
        if old and not self._warned:
            log.warning("view.old", ages_s=old, going_on="with what was last known")
        self._warned = bool(old)
