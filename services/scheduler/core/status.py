"""The state of a deployment and one truth line per instance, derived from what is seen now.

The first that holds::

    deleted · deleting · stopped · stopping ·
    none usable: failed · pending · starting ·
    updating · degraded · running
"""

from collections.abc import Sequence

from msgspec import Struct

from services.scheduler.core.backoff import Tries
from services.scheduler.core.cluster import ENDED, WAITING
from services.scheduler.core.rows import GONE, RUN, Asked
from services.scheduler.core.sight import Sight

FAILED_AFTER = 3
"""So many failures in a row make ``failed``; the tries go on."""


class Status(Struct, frozen=True, kw_only=True):
    state: str
    reason: str
    """Why it does not serve as asked; says no times, so that it changes only when it does."""
    ready: int


def status(asked: Asked, seen: Sequence[Sight], tries: Tries | None) -> Status:
    """Return the state of a deployment; ``tries`` are the scheduler's failures with all of it."""
    running = [s for s in seen if s.row.wanted == RUN]
    ready = sum(s.healthy for s in running)
    state = _at_rest(asked, seen) or _state(asked, seen, running, tries)
    reason = "" if state in _QUIET else _reason(running, tries)
    return Status(state=state, reason=reason, ready=ready)


_QUIET = {"deleted", "stopped", "running"}


def _at_rest(asked: Asked, seen: Sequence[Sight]) -> str:
    if asked.deleted_at:
        return "deleting" if seen else "deleted"
    if not asked.instances:
        return "stopping" if seen else "stopped"
    return ""


def _state(
    asked: Asked, seen: Sequence[Sight], running: Sequence[Sight], tries: Tries | None
) -> str:
    if not any(s.usable for s in running):
        return _without_service(running, tries)
    if any(s.row.generation != asked.generation and s.row.wanted != GONE for s in seen):
        return "updating"
    if sum(s.healthy for s in running) < asked.instances:
        return "degraded"
    return "running"


def _without_service(running: Sequence[Sight], tries: Tries | None) -> str:
    failures = max((s.failures for s in running), default=0)
    if max(failures, tries.failures if tries else 0) >= FAILED_AFTER:
        return "failed"
    if all(s.observed is None or s.observed.state in {WAITING, ENDED} for s in running):
        return "pending"
    return "starting"


def _reason(running: Sequence[Sight], tries: Tries | None) -> str:
    """Return the reason of the one that fails most, of those that do not serve."""
    if tries is not None:
        return tries.reason
    lacking = [s for s in running if not s.healthy]
    lacking.sort(key=lambda s: -s.failures)
    return next((why for s in lacking if (why := reason(s))), "")


def reason(sight: Sight) -> str:
    """Return why an instance does not serve, in a sentence; empty when nobody said."""
    record = sight.record
    if record is not None and record.reason and not sight.usable:
        return record.reason
    if sight.observed is not None and sight.observed.reason:
        return sight.observed.reason
    if sight.silent:
        return "its worker has not been heard"
    return sight.tries.reason if sight.tries else ""
