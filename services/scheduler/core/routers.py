"""What the routers report, and when all of them have let go of an instance.

An instance that is drained is empty for the routers when every live one (reported within 3 s)
obeys the verdict, that is, has read the ``deployments`` bucket to the verdict's position, and what
they have in flight there has been 0 for 2 s. Who is live is known after 5 s of listening.

All times here are seconds on one steady clock.
"""

from msgspec import Struct

from caravan.contracts.reports import InstanceUse, Position, Report

LIVE_S = 3.0
LISTEN_S = 5.0
QUIET_S = 2.0
FORGET_S = 60.0
VIEW = "deployments"


class Written(Struct, frozen=True):
    """Where a verdict stands in the bucket: the stream, told by its birth, and the sequence."""

    created: str
    sequence: int

    def read_by(self, position: Position | None) -> bool:
        """Tell whether a reader at ``position`` has read it; unknown for another stream."""
        return (
            position is not None
            and position.created == self.created
            and position.sequence >= self.sequence
        )


class Heard(Struct, frozen=True):
    at: float
    report: Report


class Ejection(Struct, frozen=True, kw_only=True):
    """Routers that use an instance last, since it failed them too often."""

    by: int
    of: int
    """Routers that are live."""
    last_error: str = ""
    last_error_at: float = 0.0
    """By the clock of the router that had it, seconds since the epoch."""


class Drain(Struct, frozen=True):
    """How far the routers are with one instance."""

    written: Written
    quiet_since: float | None = None


class Routers:
    """The newest report of each router process, and the drains that wait for them.

    ``listening`` restarts the 5 s: at the start and whenever the connection was lost.
    ``heard`` takes a report; ``drain`` begins or continues to watch an instance.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._heard: dict[str, Heard] = {}
        self._drains: dict[str, Drain] = {}

    def listening(self, now: float) -> None:
        """Reports may have been missed until now: nobody counts as gone, nothing as quiet."""
        self._since = now
        self._drains = {key: Drain(d.written) for key, d in self._drains.items()}

    def heard(self, report: Report, now: float) -> None:
        """Take a report in; the newest of a process is the truth."""
        if report.leaving:
            self._heard.pop(report.run, None)
        else:
            self._heard[report.run] = Heard(now, report)
        self._heard = {run: h for run, h in self._heard.items() if now - h.at < FORGET_S}
        for key in self._drains:
            self._step(key, now)

    def drain(self, key: str, written: Written, now: float) -> None:
        """Watch an instance whose verdict stands at ``written``; a first position is kept."""
        found = self._drains.get(key)
        if found is None or found.written.created != written.created:
            self._drains[key] = Drain(written)
        self._step(key, now)

    def forget(self, key: str) -> None:
        """The instance has ended, or is drained no longer."""
        self._drains.pop(key, None)

    def watches(self, key: str) -> bool:
        """Tell whether this instance's drain is watched."""
        return key in self._drains

    def draining(self) -> bool:
        """Tell whether any drain is watched."""
        return bool(self._drains)

    def quiet_since(self, key: str, now: float) -> float | None:
        """Return since when no router has had anything there, once that is 2 s ago; else None."""
        if key in self._drains:
            self._step(key, now)
        drain = self._drains.get(key)
        if drain is None or drain.quiet_since is None or now - drain.quiet_since < QUIET_S:
            return None
        return drain.quiet_since

    def in_flight(self, key: str, now: float) -> int:
        """Return how many requests the live routers have at the instance."""
        return sum(use.in_flight for use in self._uses(key, now))

    def outcome(self, key: str) -> InstanceUse | None:
        """Return the newest outcome that any router had there; None when there was none."""
        uses = [h.report.instances[key] for h in self._heard.values() if key in h.report.instances]
        uses = [use for use in uses if use.last_answer_at or use.last_error_at]
        return max(uses, key=lambda u: max(u.last_answer_at, u.last_error_at), default=None)

    def ejection(self, key: str, now: float) -> Ejection | None:
        """Return which part of the live routers has ejected the instance; None when none has."""
        live = self._live(now)
        uses = [use for use in self._uses(key, now) if use.ejected]
        if not uses:
            return None
        last = max(uses, key=lambda use: use.last_error_at)
        return Ejection(
            by=len(uses),
            of=len(live),
            last_error=last.last_error,
            last_error_at=last.last_error_at,
        )

    def _live(self, now: float) -> list[Report]:
        return [h.report for h in self._heard.values() if now - h.at <= LIVE_S]

    def _uses(self, key: str, now: float) -> list[InstanceUse]:
        found = (report.instances.get(key) for report in self._live(now))
        return [use for use in found if use is not None]

    def _step(self, key: str, now: float) -> None:
        drain = self._drains[key]
        if not self._let_go(key, drain.written, now):
            self._drains[key] = Drain(drain.written)
        elif drain.quiet_since is None:
            self._drains[key] = Drain(drain.written, now)

    def _let_go(self, key: str, written: Written, now: float) -> bool:
        if now - self._since < LISTEN_S:
            return False
        obeyed = all(written.read_by(r.positions.get(VIEW)) for r in self._live(now))
        return obeyed and self.in_flight(key, now) == 0
