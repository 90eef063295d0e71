"""The life of one worker and its engine, as values: what was seen in, what to do out.

                  Fetched              Answered
    ●── starting ─────────► loading ─────────────► ready
           │                   │                     │
           │ Asked             │ Asked               │ Asked (SIGTERM)
           │                   │                     ▼
           │                   │                 draining ── serves on for 2 s and until it is
           │                   │                     │       idle; at most drain_s; not beyond
           │                   ▼                     ▼       the deadline of a planned drain
           │                STOP the engine ◄────────┘
           ▼                   │ Exited
          exit 0 ◄─────────────┘

    Refused (source, flags, port …)      ──► failed, exit by the refusal's code
    Exited, and nobody asked for it      ──► failed, exit 1
    no token within load_s               ──► failed, KILL, Exited, exit 1
    work and no progress for stall_s     ──► failed, KILL, Exited, exit 1   (draining: exit 0)
    Superseded (a higher term was seen)  ──► STOP, Exited, exit 75; it announces nothing any more
    Asked again                          ──► KILL

``failed`` is final. An engine is started once, never again: a new life is the cluster's business.
Once ``exit`` is set, nothing changes any more. Every ``at`` is of one monotonic clock, in seconds.
"""

from msgspec import Struct
from msgspec.structs import replace

from caravan.contracts.errors import Problem, meaning
from caravan.contracts.instances import DRAINING, FAILED, LOADING, READY, STARTING
from services.worker.core.errors import HELD_EXIT
from services.worker.core.load import Load

QUIET_S = 2.0
"""So long a draining engine is served on, whatever it has to do: routers learn of it meanwhile."""

LOADING_PAUSE_S = 0.25
DRAINING_PAUSE_S = 0.5
IDLE_READS = 2
"""One reading can miss a request that is on its way into the engine's queue."""

# What the engine is doing.
NONE, RUNNING, ENDING = "none", "running", "ending"

# What to do.
START, PROBE, STOP, KILL = "start", "probe", "stop", "kill"
Actions = tuple[str, ...]


class Limits(Struct, frozen=True, kw_only=True):
    """How long things may take, in seconds."""

    drain_s: float = 120.0
    stall_s: float = 120.0
    load_s: float = 3600.0
    probe_s: float = 60.0
    """An idle engine is asked for a token so often."""
    grace_s: float = 20.0
    """Between SIGTERM and SIGKILL, where nothing has to be finished."""
    pause_s: float = 3.0
    """Between two readings of a ready engine's load."""


class Life(Struct, frozen=True, kw_only=True):
    """Where a worker stands."""

    limits: Limits
    state: str = STARTING
    engine: str = NONE
    code: str = ""
    """The code of what ended it; empty: nothing is wrong."""
    reason: str = ""
    asked: bool = False
    superseded: bool = False
    exit: int | None = None
    """The exit status, once nothing is left to do."""
    load: Load = Load()
    answered_at: float | None = None
    """When the engine last gave a token or a vector."""
    probing: bool = False
    ticked_at: float | None = None
    waited_s: float = 0.0
    """So long it loads, or was silent with work; counted in ticks, so that a worker that was itself
    stopped for a while does not take that for the engine's silence."""
    quiet_until: float = 0.0
    end_by: float = 0.0
    idle_reads: int = 0
    patience_s: float = 0.0
    """How long after STOP the engine is killed. One that drains keeps the rest of its time: SGLang
    finishes what it has begun, and knows better than its load, which it tells late."""


class Fetched(Struct, frozen=True):
    """The weights are on this machine, and the engine's command line is made."""

    at: float


class Refused(Struct, frozen=True):
    """It cannot be served as asked."""

    at: float
    problem: Problem


class Answered(Struct, frozen=True):
    """A real token, or a vector, came through the served name."""

    at: float


class Missed(Struct, frozen=True):
    """A probe came to nothing."""

    at: float


class Ticked(Struct, frozen=True):
    """The clock; with the engine's load when it could be read."""

    at: float
    load: Load | None = None


class Exited(Struct, frozen=True):
    """The engine's process is gone."""

    at: float
    words: str


class Asked(Struct, frozen=True):
    """SIGTERM: it shall end."""

    at: float


class Told(Struct, frozen=True):
    """The scheduler's verdict is a drain that ends at ``deadline`` of this clock."""

    at: float
    deadline: float


class Superseded(Struct, frozen=True):
    """Another incarnation has a higher term."""

    at: float
    term: int


Seen = Fetched | Refused | Answered | Missed | Ticked | Exited | Asked | Told | Superseded


def step(life: Life, seen: Seen) -> tuple[Life, Actions]:  # noqa: C901, PLR0911 - a line for each
    """Return the life after ``seen``, and what to do, in order."""
    if life.exit is not None:
        return life, ()
    match seen:
        case Ticked():
            return _ticked(life, seen)
        case Fetched():
            return _fetched(life)
        case Answered():
            return _answered(life, seen.at), ()
        case Missed():
            return replace(life, probing=False), ()
        case Asked():
            return _asked(life, seen.at)
        case Told():
            return _told(life, seen)
        case Exited():
            return _exited(life, seen.words), ()
        case Refused():
            return _refused(life, seen.problem), ()
        case Superseded():
            return _superseded(life, seen.term)


def pause_s(life: Life) -> float:
    """Return how long to wait before the next tick, in seconds."""
    match life.state:
        case "loading":
            return LOADING_PAUSE_S
        case "draining":
            return DRAINING_PAUSE_S
        case _:
            return life.limits.pause_s


def _fetched(life: Life) -> tuple[Life, Actions]:
    if life.state != STARTING or life.engine != NONE:
        return life, ()
    return replace(life, state=LOADING, engine=RUNNING, waited_s=0.0), (START,)


def _answered(life: Life, at: float) -> Life:
    life = replace(life, probing=False, waited_s=0.0, answered_at=at)
    if life.state == LOADING and life.engine == RUNNING:
        return replace(life, state=READY)
    return life


def _refused(life: Life, problem: Problem) -> Life:
    return replace(
        life,
        state=FAILED,
        code=problem.code,
        reason=problem.message,
        exit=meaning(problem.code).exit,
    )


def _ticked(life: Life, tick: Ticked) -> tuple[Life, Actions]:
    passed = 0.0 if life.ticked_at is None else max(tick.at - life.ticked_at, 0.0)
    passed = min(passed, 2 * pause_s(life))
    life = replace(life, ticked_at=tick.at)
    if life.engine != RUNNING:
        return life, ()
    if life.state == LOADING:
        return _still_loading(replace(life, waited_s=life.waited_s + passed))
    return _serving(life, tick, passed)


def _still_loading(life: Life) -> tuple[Life, Actions]:
    if life.waited_s > life.limits.load_s:
        limit = f"{life.limits.load_s:.0f} s"
        return _give_up(
            life, f"the engine gave no token within {limit} of its start and was killed"
        )
    return _probe(life)


def _serving(life: Life, tick: Ticked, passed: float) -> tuple[Life, Actions]:
    life = _judge_progress(life, tick, passed)
    if life.waited_s > life.limits.stall_s:
        limit = f"{life.limits.stall_s:.0f} s"
        return _give_up(
            life, f"the engine had work and made no progress for {limit}: it was killed"
        )
    if life.state == DRAINING:
        return _draining(life, tick)
    due = life.answered_at is None or tick.at - life.answered_at >= life.limits.probe_s
    if due and tick.load is not None and tick.load.idle:
        return _probe(life)
    return life, ()


def _judge_progress(life: Life, tick: Ticked, passed: float) -> Life:
    """Count the time without a sign: no reading, a probe on its way, or work that stands still."""
    if tick.load is None:
        return replace(life, waited_s=life.waited_s + passed)
    moved = tick.load.mark != life.load.mark
    life = replace(life, load=tick.load)
    if moved and not tick.load.idle:
        return replace(life, waited_s=0.0, answered_at=tick.at)
    if moved or (tick.load.idle and not life.probing):
        return replace(life, waited_s=0.0)
    return replace(life, waited_s=life.waited_s + passed)


def _draining(life: Life, tick: Ticked) -> tuple[Life, Actions]:
    idle = tick.load is not None and tick.load.idle
    life = replace(life, idle_reads=life.idle_reads + 1 if idle else 0)
    done = life.idle_reads >= IDLE_READS and tick.at >= life.quiet_until
    if done or tick.at >= life.end_by:
        return _end_drained(life, tick.at)
    return life, ()


def _end_drained(life: Life, at: float) -> tuple[Life, Actions]:
    rest = max(life.end_by - at, 0.0)
    life, actions = _end(life, STOP)
    return replace(life, patience_s=life.patience_s + rest), actions


def _asked(life: Life, at: float) -> tuple[Life, Actions]:
    if life.engine == NONE:
        reason = "asked to end before its engine was started"
        return replace(life, state=DRAINING, asked=True, reason=reason, exit=0), ()
    if life.asked or life.engine == ENDING:
        return _end(replace(life, asked=True), KILL)
    if life.state == READY:
        drain_s = life.limits.drain_s
        life = replace(life, quiet_until=at + min(QUIET_S, drain_s), end_by=at + drain_s)
        return replace(life, state=DRAINING, asked=True, reason="asked to end"), ()
    life = replace(life, state=DRAINING, asked=True, reason="asked to end while it loaded")
    return _end(life, STOP)


def _told(life: Life, told: Told) -> tuple[Life, Actions]:
    if life.state != DRAINING or life.engine != RUNNING:
        return life, ()
    life = replace(life, end_by=min(life.end_by, told.deadline))
    return _end_drained(life, told.at) if told.at >= life.end_by else (life, ())


def _exited(life: Life, words: str) -> Life:
    if life.superseded:
        return replace(life, exit=HELD_EXIT)
    if life.state == FAILED:
        return replace(life, exit=1)
    if life.asked:
        early = life.engine != ENDING
        reason = f"asked to end; before that the engine ended by itself: {words}"
        return replace(life, exit=0, reason=reason if early else life.reason)
    reason = f"the engine ended: {words}"
    return replace(life, state=FAILED, code="internal_error", reason=reason, exit=1)


def _superseded(life: Life, term: int) -> tuple[Life, Actions]:
    reason = f"another worker runs this instance with term {term}"
    life = replace(life, superseded=True, code="internal_error", reason=reason)
    if life.engine == NONE:
        return replace(life, exit=HELD_EXIT), ()
    return _end(life, STOP) if life.engine == RUNNING else (life, ())


def _give_up(life: Life, reason: str) -> tuple[Life, Actions]:
    if life.asked:
        return _end(replace(life, reason=f"asked to end; {reason}"), KILL)
    return _end(replace(life, state=FAILED, code="internal_error", reason=reason), KILL)


def _probe(life: Life) -> tuple[Life, Actions]:
    return (life, ()) if life.probing else (replace(life, probing=True), (PROBE,))


def _end(life: Life, how: str) -> tuple[Life, Actions]:
    life = replace(life, engine=ENDING, probing=False, patience_s=life.limits.grace_s)
    return life, (how,)
