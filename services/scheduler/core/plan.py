"""What was asked and what is seen in, decisions out: first on rows, then on the cluster.

``plan`` decides which rows begin, drain and end; they are written before anybody hears of them.
``commands`` says what the cluster must be told for the rows as they now stand. Both may be asked
again at any moment: what is done already is not decided twice.
"""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from caravan.contracts.instances import Spec
from services.scheduler.core.cluster import STOPPING, Ref
from services.scheduler.core.rows import DRAIN, GONE, RUN, Asked, Named
from services.scheduler.core.sight import Sight


class Name(Struct, frozen=True):
    """A new row: an instance that shall run."""

    spec: Spec


class Drain(Struct, frozen=True):
    """No new requests from now on; it ends when it is empty, or at the deadline."""

    instance: str
    deadline: float


class End(Struct, frozen=True):
    """It is drained, or never ran: the cluster shall stop it."""

    instance: str


class Remove(Struct, frozen=True):
    """The cluster has shown its end: its record, its remains and its row go."""

    instance: str


Decision = Name | Drain | End | Remove


class Start(Struct, frozen=True):
    spec: Spec


class Stop(Struct, frozen=True):
    ref: Ref


class StartAgain(Struct, frozen=True):
    """It ended though it shall run: clear what is left, then start it under the same name."""

    spec: Spec


Command = Start | Stop | StartAgain


def plan(asked: Asked, seen: Sequence[Sight], ids: Iterator[str], now: float) -> list[Decision]:
    """Return what takes the rows nearer to what was asked.

    Only a row stops something: what the cluster runs and no row names is not in ``seen``.
    """
    want = 0 if asked.deleted_at else asked.instances
    leavers = _leavers(asked, want, seen)
    return [
        *(Name(asked.spec(next(ids))) for _ in range(_missing(asked, want, seen))),
        *(Drain(s.row.instance, now + asked.drain_s) for s in leavers),
        *(End(s.row.instance) for s in seen if s.row.wanted == DRAIN and _drained(s, now)),
        *(Remove(s.row.instance) for s in seen if s.row.wanted == GONE and s.ended),
    ]


def commands(seen: Sequence[Sight]) -> list[Command]:
    """Return what to tell the cluster, so that it does what the rows say."""
    found = (_command(sight) for sight in seen)
    return [command for command in found if command is not None]


def unclaimed(rows: Sequence[Named], running: Sequence[Ref]) -> list[Ref]:
    """Return what the cluster runs and no row names: it is shown and left alone."""
    named = {row.ref for row in rows}
    return sorted(ref for ref in running if ref not in named)


def _command(sight: Sight) -> Command | None:
    row = sight.row
    if row.wanted == GONE:
        over = sight.observed is None or sight.ended or sight.observed.state == STOPPING
        return None if over else Stop(row.ref)
    if row.wanted == RUN and sight.observed is None:
        return Start(row.spec)
    if row.wanted == RUN and sight.ended:
        return StartAgain(row.spec)
    return None


def _missing(asked: Asked, want: int, seen: Sequence[Sight]) -> int:
    """Return how many to name; an update goes one by one and counts those that still leave."""
    running = [s for s in seen if s.row.wanted == RUN]
    lacking = want - sum(s.row.generation == asked.generation for s in running)
    if all(s.row.generation == asked.generation for s in seen):
        return max(lacking, 0)
    surge = 0 if asked.in_place else 1
    return max(min(lacking, want + surge - len(seen)), 0)


def _leavers(asked: Asked, want: int, seen: Sequence[Sight]) -> list[Sight]:
    """Return those to drain now: surplus, then old ones that their successors make spare."""
    here = [s for s in seen if s.row.wanted == RUN]
    new = [s for s in here if s.row.generation == asked.generation]
    old = [s for s in here if s.row.generation != asked.generation]
    successors = min(sum(s.healthy for s in new), want)
    settled = len(seen) == len(here) >= want and all(s.healthy for s in new)
    makes_room = asked.in_place and settled
    return [
        *_least_missed(new, len(new) - want),
        *_old_leavers(old, want - successors, makes_room=makes_room),
    ]


def _old_leavers(old: Sequence[Sight], needed: int, *, makes_room: bool) -> list[Sight]:
    """Return the old ones that serve nobody, and of the others those that are not ``needed``.

    In place, one more goes first to make room, but only when nothing else is on its way.
    """
    idle = [s for s in old if s.idle]
    serving = [s for s in old if not s.idle]
    spare = len(serving) - needed
    if makes_room and not idle:
        spare = max(spare, 1)
    return [*idle, *_least_missed(serving, spare)]


def _least_missed(seen: Sequence[Sight], count: int) -> list[Sight]:
    """Return ``count``: those not ready first, then the suspect, the least busy, the newest."""
    order = sorted(
        seen,
        key=lambda s: (s.usable, s.healthy, s.in_flight, -s.row.named_at, s.row.instance),
    )
    return order[: max(count, 0)]


def _drained(sight: Sight, now: float) -> bool:
    return sight.ended or sight.empty or now >= sight.row.deadline
