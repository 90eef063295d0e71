"""Probes the instances that are ejected, and says when one is, and when it has healed."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from caravan.contracts.instances import Record
from services.router.core.outliers import News, Outliers

EVERY_S = 0.5
AT_ONCE = 16
"""Where a whole cluster is away, probes shall not take the sockets that requests need."""
log = structlog.get_logger()


class Records(Protocol):
    """The instances' records, e.g. the router's views."""

    def records(self, deployment: str) -> Mapping[str, Record]:
        """Return the records of one deployment by instance."""


class Prober(Protocol):
    """Asks engines how they are."""

    async def probe(self, record: Record) -> bool:
        """Tell, in bounded time, whether the engine of ``record`` is well; raises nothing."""


class Probes:
    """Looks twice a second which ejected instances are due, and probes them side by side.

    ``changed`` is called with an instance's key when it is ejected no longer by what happened here:
    a good probe, or a new life (another worker has said that its engine answers; what an earlier
    one did is not held against it). ``repeat`` runs for ever and needs nothing of NATS: without it
    the last records known are probed.
    """

    def __init__(
        self,
        outliers: Outliers,
        records: Records,
        prober: Prober,
        changed: Callable[[str], None],
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outliers, self._records, self._prober = outliers, records, prober
        self._changed, self._steady = changed, steady
        self._probing: set[str] = set()

    async def repeat(self) -> None:
        """Look and probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._forget_what_ended()
                for instance, record in self._due():
                    self._probing.add(instance)
                    group.create_task(self._probe(instance, record), name=f"probe {instance}")
                self._tell()
                await asyncio.sleep(EVERY_S)

    def _due(self) -> list[tuple[str, Record]]:
        waiting = [i for i in self._outliers.due(self._steady()) if i not in self._probing]
        found = [(i, self._record(i)) for i in waiting[: max(AT_ONCE - len(self._probing), 0)]]
        return [(instance, record) for instance, record in found if record is not None]

    async def _probe(self, instance: str, record: Record) -> None:
        try:
            well = await self._prober.probe(record)
        finally:
            self._probing.discard(instance)
        if self._record(instance) != record:
            return  # said of an address that is no longer its own: it is still due
        if self._outliers.probed(instance, well, self._steady()):
            self._changed(instance)

    def _forget_what_ended(self) -> None:
        """Let go of instances without a record, and of what was held against an earlier life.

        Failures that come late, of an instance that is gone, would otherwise be kept for ever.
        """
        for instance in self._ended():
            if self._outliers.forget(instance):
                self._changed(instance)

    def _ended(self) -> list[str]:
        return [i for i, held in self._outliers.seen().items() if not self._lives_on(i, held.life)]

    def _lives_on(self, instance: str, life: str) -> bool:
        record = self._record(instance)
        return record is not None and life in {"", record.incarnation}

    def _record(self, instance: str) -> Record | None:
        deployment, _, name = instance.rpartition(".")
        return self._records.records(deployment).get(name)

    def _tell(self) -> None:
        for news in self._outliers.news():
            _tell(news)


def _tell(news: News) -> None:
    if news.ejected:
        log.warning(
            "instance.ejected", instance=news.instance, why=news.why, first_probe_in_s=news.for_s
        )
    else:
        log.info("instance.healed", instance=news.instance, why=news.why)
