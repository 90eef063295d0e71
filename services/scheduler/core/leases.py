"""Which instances show no sign of life, and when that says something.

A lapsed lease is no death. It makes an instance suspect, but for the times in which the bus itself
is suspected: the scheduler's own connection broke, the lease stream was made anew, or more than
half of at least four leases lapsed together; until 20 s after the bus is back.

All times here are seconds on one steady clock.
"""

import math
from collections import deque

from msgspec import Struct

from caravan.contracts.instances import Lease

BACK_S = 20.0
"""So long after the bus is back, a missing lease may still be the bus's fault."""
TOGETHER_S = 3.0
"""Leases that lapse within so long of each other lapsed together."""
SETTLE_S = 1.0
"""So old a lapse must be to count: others that lapse together with it may follow."""
TOGETHER_LEAST = 4


class Sighting(Struct, frozen=True):
    """One renewal, as it was heard."""

    at: float
    lease: Lease
    revision: int = 0

    @property
    def idle(self) -> bool:
        return self.lease.running + self.lease.waiting == 0


class Leases:
    """Every lease's last two renewals, and whether its absence means anything.

    ``renewed`` and ``lapsed`` come from the view; ``broke`` and ``back`` from the connection, and
    ``back`` also when the stream was made anew. Each may repeat.
    """

    def __init__(self, now: float) -> None:
        self._seen: dict[str, deque[Sighting]] = {}
        self._lapsed: dict[str, float] = {}
        self._clouded_until = now + BACK_S

    def renewed(self, key: str, lease: Lease, revision: int, now: float) -> None:
        """A lease was written; one that is told again is no new sign of life."""
        self._lapsed.pop(key, None)
        seen = self._seen.setdefault(key, deque(maxlen=2))
        if not seen or seen[-1].revision != revision:
            seen.append(Sighting(now, lease, revision))

    def lapsed(self, key: str, now: float) -> None:
        """A lease ran out, or was given back."""
        if self._seen.pop(key, None) is None:
            return
        self._lapsed[key] = now
        together = sum(now - at <= TOGETHER_S for at in self._lapsed.values())
        known = len(self._seen) + together
        if known >= TOGETHER_LEAST and 2 * together > known:
            self.back(now)

    def forget(self, key: str) -> None:
        """The instance has ended; nobody waits for its lease."""
        self._seen.pop(key, None)
        self._lapsed.pop(key, None)

    def broke(self) -> None:
        """The connection is lost: nothing that is not heard means anything."""
        self._clouded_until = math.inf

    def back(self, now: float) -> None:
        """The bus is back, or something showed that it had been away."""
        self._clouded_until = now + BACK_S

    def clouded(self, now: float) -> bool:
        """Tell whether the bus itself is suspected."""
        return now < self._clouded_until

    def missing(self, key: str, now: float) -> bool:
        """Tell whether the instance's silence is its own: then it is suspect."""
        if key in self._seen or self.clouded(now):
            return False
        return now - self._lapsed.get(key, -math.inf) >= SETTLE_S

    def next_change(self, now: float) -> float:
        """Return when a silence of now may begin to count; infinity when none will."""
        due = [at + SETTLE_S for at in self._lapsed.values()]
        if self._clouded_until != math.inf:
            due.append(self._clouded_until)
        return min((at for at in due if at > now), default=math.inf)

    def newest(self, key: str) -> Sighting | None:
        """Return the newest renewal of a lease that is held."""
        seen = self._seen.get(key)
        return seen[-1] if seen else None

    def idle_twice_since(self, key: str, then: float) -> bool:
        """Tell whether the two newest renewals both came after ``then`` and say: no work."""
        seen = self._seen.get(key, ())
        return len(seen) == 2 and all(s.at > then and s.idle for s in seen)
