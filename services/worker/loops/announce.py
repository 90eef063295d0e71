"""Says on the bus how the instance is: the record when it changes, the lease every 3 s.

Without NATS nothing is lost but time: the record is compared at each beat and written again when
the bucket lacks it, also when NATS comes back with an empty disk.
"""

import asyncio
import time

import structlog

from caravan.contracts.deployments import DRAIN
from caravan.contracts.errors import Refusal, UnavailableError
from caravan.contracts.instances import DRAINING, FAILED, Lease, Record
from caravan.contracts.topology import LEASE_RENEW_S
from services.worker.core import announcement, incarnation
from services.worker.core.incarnation import Judgement
from services.worker.core.lifecycle import Refused, Superseded, Told
from services.worker.core.ports import Found, Registry
from services.worker.loops.supervise import Supervisor, rung

log = structlog.get_logger()

_FAREWELL_S = 5.0
_PATIENCE_S = 5.0
"""Shorter silence of NATS, as at the start, is not worth a line."""


class Announcer:
    """Announces ``supervisor``'s life; ``run`` until it is cancelled, then ``farewell`` once."""

    def __init__(self, supervisor: Supervisor, registry: Registry) -> None:
        self._supervisor = supervisor
        self._registry = registry
        self._bell = supervisor.bell()
        self._term: int | None = None
        self._silent_since: float | None = None
        self._complained = False

    def wake(self) -> None:
        """Have the next beat now: NATS is back."""
        self._bell.set()

    async def run(self) -> None:
        """Beat until cancelled.

        A cancellation that meets an answer of NATS is lost on its way before Python 3.12
        (``asyncio.wait_for``), so the task itself is asked.
        """
        task = asyncio.current_task()
        while not (self._supervisor.life.superseded or (task is not None and task.cancelling())):
            self._bell.clear()
            await self._beat()
            await rung(self._bell, LEASE_RENEW_S)

    async def farewell(self) -> None:
        """Say how it ended and take the lease back, as far as NATS answers within seconds."""
        life = self._supervisor.life
        if life.superseded:
            return
        try:
            async with asyncio.timeout(_FAREWELL_S):
                while not await self._told_end() and life.state == FAILED:
                    await self._bell.wait()  # it may have ended before NATS was reached
        except (Refusal, TimeoutError) as exc:
            log.warning("instance.end_not_told", error=str(exc) or "NATS is too slow")

    async def _told_end(self) -> bool:
        self._bell.clear()
        try:
            if await self._tell_record():
                await self._registry.release()
        except UnavailableError:
            return False
        return True

    async def _beat(self) -> None:
        try:
            if self._supervisor.life.state == DRAINING:
                await self._hear_verdict()
            if await self._tell_record():
                await self._registry.renew(self._lease())
        except UnavailableError as exc:
            self._complain(exc)
        except Refusal as exc:
            if self._term is None:  # an engine that serves already is not ended for it
                self._supervisor.see(Refused(time.monotonic(), exc.problem))
            log.error("instance.not_heard", error=str(exc))  # noqa: TRY400
        else:
            self._silent_since, self._complained = None, False

    def _complain(self, exc: UnavailableError) -> None:
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
        if not self._complained and now - self._silent_since >= _PATIENCE_S:
            self._complained = True
            log.warning("instance.not_heard", error=str(exc))

    async def _tell_record(self) -> bool:
        """Have the record say what is; False when another worker's stands there by right."""
        while True:
            found = await self._registry.find()
            mine = self._record(found)
            match incarnation.judge(mine, found.record if found else None):
                case Judgement.LEAVE:
                    term = found.record.term if found and found.record else 0
                    self._supervisor.see(Superseded(time.monotonic(), term))
                    return False
                case Judgement.KEEP:
                    return True
                case Judgement.WRITE:
                    if await self._registry.write(mine, found.revision if found else None):
                        self._term = mine.term
                        return True

    def _record(self, found: Found | None) -> Record:
        term = self._term
        if term is None:
            term = incarnation.next_term(found.record if found else None)
        at = self._supervisor
        return announcement.record(at.facts, at.life, term, at.since, at.last_lines())

    def _lease(self) -> Lease:
        at = self._supervisor
        return announcement.lease(at.facts, at.life, at.progress, at.answered_at())

    async def _hear_verdict(self) -> None:
        verdict = await self._registry.verdict()
        if verdict is None or verdict.word != DRAIN or not verdict.deadline:
            return
        at = time.monotonic()
        self._supervisor.see(Told(at, at + verdict.deadline - time.time()))
