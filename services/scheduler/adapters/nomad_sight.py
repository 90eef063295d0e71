"""What Nomad's jobs, allocations and evaluations say of each instance. Values only."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from services.scheduler.adapters import nomad_jobs, nomad_words
from services.scheduler.adapters.nomad_answers import Alloc, Evaluation, Metric
from services.scheduler.core import cluster
from services.scheduler.core.cluster import Observed, Ref

STEADY_S = 300.0
"""A life that lasted this long ends the row of failures."""
SCALED_TO_ZERO = (
    "somebody set its count to 0 in Nomad: set it to 1 there, or stop or scale the model service"
)


class Seen(Struct, frozen=True, kw_only=True):
    """One job with all that belongs to it."""

    tenant: str
    name: str
    job: Mapping[str, Any]
    allocs: Sequence[Alloc]
    evaluations: Sequence[Evaluation]

    def ref(self, instance: str) -> Ref:
        return Ref(self.tenant, self.name, instance)


def instances(seen: Seen, now: float) -> list[Observed]:
    """Return what is to be said of each group of the job, and of what still runs of others."""
    of: dict[str, list[Alloc]] = defaultdict(list)
    for alloc in sorted(seen.allocs, key=lambda alloc: alloc.create_index):
        of[alloc.task_group].append(alloc)
    groups = {group["Name"]: group for group in seen.job.get("TaskGroups") or ()}
    taken_out = [name for name in of if name not in groups]
    return [
        *(_instance(seen, group, of[name], now) for name, group in groups.items()),
        *(_leaving(seen.ref(name), of[name]) for name in taken_out if _open(of[name])),
    ]


def _instance(
    seen: Seen, group: Mapping[str, Any], allocs: Sequence[Alloc], now: float
) -> Observed:
    ref = seen.ref(group["Name"])
    if seen.job.get("Stop") or nomad_jobs.is_stopped(group) or not group.get("Count"):
        by_hand = not seen.job.get("Stop") and not nomad_jobs.is_stopped(group)
        if by_hand and not _open(allocs):
            return Observed(ref=ref, state=cluster.WAITING, reason=SCALED_TO_ZERO)
        return _leaving(ref, allocs)
    # Those that Nomad itself ended (a drained node, a lost one) await their successor.
    lives = [alloc for alloc in allocs if not (alloc.over and alloc.desired_status == "stop")]
    if not lives:
        return Observed(ref=ref, state=cluster.WAITING, reason=_why_not_placed(seen, ref.instance))
    newest = lives[-1]
    here = Observed(
        ref=ref, state=cluster.RUNNING, allocation=newest.id, since=newest.modify_time / 1e9
    )
    if newest.over:
        return _over(seen, here, newest)
    return _alive(here, newest, allocs, now)


def _open(allocs: Sequence[Alloc]) -> list[Alloc]:
    return [alloc for alloc in allocs if not alloc.over]


def _leaving(ref: Ref, allocs: Sequence[Alloc]) -> Observed:
    """It was asked to stop: ended when the clients have ended all of it."""
    left = _open(allocs)
    if not allocs:
        return Observed(ref=ref, state=cluster.ENDED)
    newest = (left or allocs)[-1]
    unheard = any(alloc.client_status == "unknown" for alloc in left)
    return Observed(
        ref=ref,
        state=cluster.STOPPING if left else cluster.ENDED,
        reason=f"its node {newest.node_name} is not heard" if unheard else "",
        since=newest.modify_time / 1e9,
        allocation=newest.id,
    )


def _over(seen: Seen, here: Observed, newest: Alloc) -> Observed:
    """Its newest life is over and it shall run: Nomad tries again, or waits for room."""
    failures = _failures(newest) if newest.client_status != "lost" else 0
    reason = nomad_words.failure(newest)
    next_try = next((e for e in seen.evaluations if e.id == newest.follow_up), None)
    if next_try is not None and next_try.wait_until is not None:
        return replace(
            here,
            state=cluster.RESTARTING,
            reason=reason,
            failures=failures,
            next_try_at=next_try.wait_until.timestamp(),
        )
    if _lacks(seen, here.ref.instance) is not None:
        reason = f"{reason}, and now {_why_not_placed(seen, here.ref.instance)}"
        return replace(here, state=cluster.WAITING, reason=reason, failures=failures)
    return replace(here, state=cluster.RESTARTING, reason=reason, failures=failures)


def _alive(here: Observed, newest: Alloc, allocs: Sequence[Alloc], now: float) -> Observed:
    if newest.client_status == "unknown":
        return replace(here, reason=f"its node {newest.node_name} is not heard")
    if newest.client_status != "running" or newest.task.started_at is None:
        return replace(here, reason=f"it was placed on {newest.node_name} and is being started")
    since = newest.task.started_at.timestamp()
    steady = now - since >= STEADY_S
    failures = 0 if steady else _failures_before(newest)
    return replace(
        here,
        since=since,
        failures=failures,
        reason=_last_failure(newest, allocs) if failures else "",
    )


def _why_not_placed(seen: Seen, instance: str) -> str:
    return nomad_words.waiting(_lacks(seen, instance))


def _lacks(seen: Seen, instance: str) -> Metric | None:
    """Return what the group lacks to be placed, or None when it waits for nothing."""
    blocked = (e.failed or {} for e in seen.evaluations if e.status == "blocked")
    return next((failed[instance] for failed in blocked if instance in failed), None)


def _failures(over: Alloc) -> int:
    """Return how many lives in a row failed, the newest included."""
    events = _events(over)
    finished = over.task.finished_at
    if events and finished and finished.timestamp() - events[-1] >= STEADY_S:
        return 1
    return _failures_before(over) + 1


def _failures_before(alloc: Alloc) -> int:
    tracker = alloc.reschedule_tracker
    failures, last = 0, None
    for event in (tracker.events if tracker else None) or ():
        made = event.reschedule_time / 1e9
        lived_s = made - event.delay / 1e9 - last if last is not None else 0.0
        failures = 1 if lived_s >= STEADY_S else failures + 1
        last = made
    return failures


def _events(alloc: Alloc) -> list[float]:
    tracker = alloc.reschedule_tracker
    return [event.reschedule_time / 1e9 for event in (tracker.events if tracker else None) or ()]


def _last_failure(alloc: Alloc, allocs: Iterable[Alloc]) -> str:
    tracker = alloc.reschedule_tracker
    events = (tracker.events if tracker else None) or []
    before = events[-1].prev_alloc_id if events else ""
    return next((nomad_words.failure(other) for other in allocs if other.id == before), "")
