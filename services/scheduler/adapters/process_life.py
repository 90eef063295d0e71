"""What is kept of an instance that runs as a process, and how it moves on. Values only."""

from msgspec import Struct
from msgspec.structs import replace

from caravan.kit.process import Identity
from services.scheduler.core import cluster
from services.scheduler.core.cluster import Observed, Ref


class Pace(Struct, frozen=True, kw_only=True):
    """How fast failed instances are tried again, and how long a stop may take."""

    first_s: float = 5.0
    """Before the first new try; doubles with each further failure."""
    longest_s: float = 300.0
    steady_s: float = 300.0
    """A life that lasted this long ends the row of failures."""
    margin_s: float = 30.0
    """A stop kills this long after the drain time."""

    def delay_s(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row (1 or more)."""
        return min(self.first_s * 2.0 ** min(failures - 1, 32), self.longest_s)


class Life(Struct, frozen=True, kw_only=True):
    """The content of ``process.json``; also readable as the ``Identity`` of the worker."""

    pid: int = 0
    """Of the worker; 0 when there is none."""
    started: int = 0
    """The worker's start as the kernel counts it: tells a reused pid from the worker."""
    since: float = 0.0
    """When the present state began, seconds since the epoch, like all times here."""
    launched_at: float = 0.0
    name: str = ""
    """Of the newest life; its worker writes it into its record."""
    failures: int = 0
    next_try_at: float = 0.0
    reason: str = ""
    kill_at: float = 0.0
    """Set when it was asked to stop: SIGKILL follows then. It is never started again."""
    told: bool = False
    """Whether the worker got its SIGTERM: a second one would mean *at once*."""

    @property
    def worker(self) -> Identity | None:
        return Identity(pid=self.pid, started=self.started) if self.pid else None


def launched(life: Life, worker: Identity, now: float, name: str = "") -> Life:
    """Return the life whose process has just begun under ``name``."""
    return replace(
        life,
        pid=worker.pid,
        started=worker.started,
        since=now,
        launched_at=now,
        name=name,
        next_try_at=0.0,
    )


def failed(life: Life, reason: str, now: float, pace: Pace) -> Life:
    """Return the life whose process ended at ``now`` without being asked to, or never began."""
    steady = life.pid != 0 and now - life.launched_at >= pace.steady_s
    failures = 1 if steady else life.failures + 1
    return replace(
        life,
        pid=0,
        started=0,
        since=now,
        failures=failures,
        next_try_at=now + pace.delay_s(failures),
        reason=reason,
    )


def interrupted(life: Life, reason: str, now: float) -> Life:
    """Return the life whose process went together with the machine or the platform: no failure."""
    return replace(life, pid=0, started=0, since=now, next_try_at=now, reason=reason)


def asked_to_stop(life: Life, now: float, grace_s: float) -> Life:
    """Return the life that ends within ``grace_s``; one that was asked before keeps its time."""
    if life.kill_at:
        return life
    return replace(life, kill_at=now + grace_s, since=now, next_try_at=0.0)


def told(life: Life) -> Life:
    """Return the life whose worker gets its SIGTERM now."""
    return replace(life, told=True)


def gone(life: Life, now: float) -> Life:
    """Return the life of which nothing runs any more."""
    return replace(life, pid=0, started=0, since=now)


def observed(ref: Ref, life: Life, now: float, pace: Pace) -> Observed:
    """Return what the cluster says of it."""
    state = _state(life)
    steady = state == cluster.RUNNING and now - life.launched_at >= pace.steady_s
    return Observed(
        ref=ref,
        state=state,
        reason="" if steady else life.reason,
        failures=0 if steady else life.failures,
        next_try_at=life.next_try_at if state == cluster.RESTARTING else 0.0,
        since=life.since,
        allocation=life.name,
    )


def _state(life: Life) -> str:
    if life.kill_at:
        return cluster.STOPPING if life.pid else cluster.ENDED
    if life.pid:
        return cluster.RUNNING
    return cluster.RESTARTING if life.next_try_at else cluster.WAITING
