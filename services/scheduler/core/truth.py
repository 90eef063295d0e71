"""One line per instance: what the cluster, its worker and the routers say, and what comes next."""

from msgspec import Struct

from caravan.contracts.admin import TruthLine
from caravan.contracts.instances import FAILED, LOADING, Progress
from services.scheduler.core.cluster import RESTARTING, RUNNING, WAITING
from services.scheduler.core.routers import Ejection
from services.scheduler.core.rows import DRAIN, GONE, RUN
from services.scheduler.core.sight import Sight
from services.scheduler.core.status import reason

UNKNOWN = "unknown"
SILENT = "silent"
_SUFFIX = {1: "st", 2: "nd", 3: "rd"}


class Clock(Struct, frozen=True):
    """Now, by the clock of rows and messages and by the scheduler's own steady one."""

    wall: float
    steady: float


def truth_line(sight: Sight, clock: Clock, *, heard: bool = True) -> TruthLine:
    """Return the line; ``heard`` says whether the cluster answered when it was asked last."""
    cluster = sight.observed.state if sight.observed is not None and heard else UNKNOWN
    worker = _worker(sight)
    why = _why(sight, clock.wall)
    step = _next_step(sight, clock)
    return TruthLine(
        instance=sight.row.instance,
        generation=sight.row.generation,
        cluster=cluster,
        worker=worker,
        routers=_routers(sight),
        verdict=sight.verdict.word,
        ready=sight.usable,
        age_s=round(_age_s(sight, clock.wall), 1),
        reason=why,
        next_step=step,
        in_flight=sight.in_flight,
        text=_text(sight, why, step),
    )


def _why(sight: Sight, now: float) -> str:
    """Return why it does not serve, or serves as one that is used last."""
    said = ["" if sight.healthy else reason(sight)]
    if sight.usable and sight.ejection is not None:
        said.append(_ejected(sight.ejection, now))
    return ", ".join(part for part in said if part)


def _ejected(ejection: Ejection, now: float) -> str:
    """Return ``ejected by 1 of 2 routers, last error: no connection in time, 4 s ago``."""
    routers = "router" if ejection.of == 1 else "routers"
    told = f"ejected by {ejection.by} of {ejection.of} {routers}"
    if not ejection.last_error_at:
        return told
    error = ejection.last_error or "unknown"
    return f"{told}, last error: {error}, {_seconds(now - ejection.last_error_at)} ago"


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th … 11th …"""
    suffix = "th" if number % 100 in {11, 12, 13} else _SUFFIX.get(number % 10, "th")
    return f"{number}{suffix}"


def _worker(sight: Sight) -> str:
    record = sight.record
    if record is None or sight.silent or (sight.outlived and record.state != FAILED):
        return SILENT
    return record.state


def _routers(sight: Sight) -> str:
    if sight.usable and sight.ejection is not None:
        return "ejected"
    use = sight.outcome
    if use is None:
        return "none"
    return "failed" if use.last_error_at > use.last_answer_at else "ok"


def _age_s(sight: Sight, now: float) -> float:
    said = [sight.row.named_at]
    if sight.observed is not None:
        said.append(sight.observed.since)
    if sight.record is not None:
        said.append(sight.record.since)
    if sight.lease is not None:
        said.append(now - sight.lease_age_s)
    if sight.outcome is not None:
        said += [sight.outcome.last_answer_at, sight.outcome.last_error_at]
    return max(now - max(said), 0.0)


def _next_step(sight: Sight, clock: Clock) -> str:
    row = sight.row
    if row.wanted == GONE:
        return "" if sight.ended else "ends"
    if row.wanted == DRAIN:
        return f"stopped when idle, in {_seconds(row.deadline - clock.wall)} at the latest"
    if sight.usable:
        return _next_when_usable(sight)
    return _next_try(sight, clock) or _loading(sight)


def _next_when_usable(sight: Sight) -> str:
    if sight.silent:
        return "used last until its worker is heard"
    return "probed until it answers" if sight.ejection is not None else ""


def _next_try(sight: Sight, clock: Clock) -> str:
    """Return ``3rd try, next in 40 s`` where something failed or waits."""
    number = f"{ordinal(sight.failures + 1)} try"
    observed = sight.observed
    if observed is not None and observed.state in {RESTARTING, WAITING} and observed.next_try_at:
        return f"{number} in {_seconds(observed.next_try_at - clock.wall)}"
    if sight.tries is not None:
        return f"{number} in {_seconds(sight.tries.next_at - clock.steady)}"
    if observed is None:
        return "to be started"
    if observed.state == WAITING:
        return "placed as soon as there is room"
    return f"{number} runs" if sight.failures and observed.state == RUNNING else ""


def _loading(sight: Sight) -> str:
    lease = sight.lease
    if lease is not None and lease.progress is not None:
        return f"ready when its weights are loaded ({progress(lease.progress)})"
    if sight.record is not None and sight.record.state == LOADING:
        return "ready when its engine answers"
    return "ready when its worker says so"


def progress(done: Progress) -> str:
    """Return how far a download is, e.g. ``120 of 980 MB, 12 %``."""
    if not done.total_bytes:
        return f"{done.done_bytes / 1e6:.0f} MB"
    share = 100 * done.done_bytes / done.total_bytes
    return f"{done.done_bytes / 1e6:.0f} of {done.total_bytes / 1e6:.0f} MB, {share:.0f} %"


def _text(sight: Sight, why: str, step: str) -> str:
    head = _head(sight)
    tail = ", ".join(part for part in (why, step) if part)
    return f"{head}: {tail}" if tail else head


def _head(sight: Sight) -> str:
    if sight.row.wanted != RUN:
        busy = f", {sight.in_flight} in flight" if sight.in_flight else ""
        return ("draining" if sight.row.wanted == DRAIN else "stopping") + busy
    if sight.usable:
        return "ready, but silent" if sight.silent else f"ready, {sight.in_flight} in flight"
    observed = sight.observed
    if observed is None:
        return "not started"
    if observed.state != RUNNING:
        return observed.state
    if sight.record is None:
        return "starting"
    return "failed" if sight.record.state == FAILED else sight.record.state


def _seconds(left: float) -> str:
    return f"{max(left, 0):.0f} s"
