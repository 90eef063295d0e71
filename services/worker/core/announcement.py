"""What a worker says of its instance: the record and the lease, made of its life."""

from msgspec import Struct

from caravan.contracts.instances import (
    DRAINING,
    FAILED,
    READY,
    Lease,
    Progress,
    Record,
    Spec,
)
from services.worker.core.lifecycle import Life

MAX_RUNNING = 32
"""What routers may assume of an engine that does not say how many requests it runs at once."""


class Facts(Struct, frozen=True, kw_only=True):
    """What stays the same, or is learnt once, in a life."""

    incarnation: str
    spec: Spec
    allocation: str = ""
    url: str = ""
    engine_key: str = ""
    max_running: int = 0
    """0 while the engine has not said it."""
    max_model_len: int = 0


def record(facts: Facts, life: Life, term: int, since: float, last_lines: list[str]) -> Record:
    """Return the record; ``since`` is when its state began, in seconds since the epoch."""
    shown = life.state in {READY, DRAINING} and bool(facts.url)
    return Record(
        incarnation=facts.incarnation,
        term=term,
        generation=facts.spec.generation,
        state=life.state,
        url=facts.url if shown else "",
        engine_key=facts.engine_key if shown else "",
        max_running=facts.max_running or MAX_RUNNING,
        max_model_len=facts.max_model_len,
        allocation=facts.allocation,
        reason=life.reason if life.state in {FAILED, DRAINING} else "",
        last_lines=last_lines if life.state == FAILED else [],
        since=since,
    )


def lease(facts: Facts, life: Life, progress: Progress | None, answered_at: float) -> Lease:
    """Return the lease; ``answered_at`` is in seconds since the epoch, 0 for never."""
    return Lease(
        incarnation=facts.incarnation,
        state=life.state,
        running=life.load.running,
        waiting=life.load.waiting,
        cache_hit_rate=life.load.cache_hit_rate,
        tokens_per_s=0.0 if life.load.idle else life.load.tokens_per_s,  # SGLang keeps the last
        progress=progress,
        last_answer_at=answered_at,
    )
