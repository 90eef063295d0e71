"""Tries that failed, and when the next one is due: 5 s, doubling to 5 minutes."""

from msgspec import Struct

FIRST_S = 5.0
LONGEST_S = 300.0


class Tries(Struct, frozen=True):
    failures: int
    next_at: float
    """On the clock that ``Backoff`` is told."""
    reason: str


class Backoff:
    """One line of failures per key; a success ends it."""

    def __init__(self) -> None:
        self._tries: dict[str, Tries] = {}

    def failed(self, key: str, reason: str, now: float) -> Tries:
        """Count a failure and return when to try again."""
        failures = self._tries[key].failures + 1 if key in self._tries else 1
        wait = min(FIRST_S * 2 ** min(failures - 1, 16), LONGEST_S)
        self._tries[key] = Tries(failures, now + wait, reason)
        return self._tries[key]

    def worked(self, key: str) -> None:
        """Begin anew for this key."""
        self._tries.pop(key, None)

    def of(self, key: str) -> Tries | None:
        """Return the failures in a row, if there are any."""
        return self._tries.get(key)

    def due(self, key: str, now: float) -> bool:
        """Tell whether a try may be made now."""
        tries = self._tries.get(key)
        return tries is None or now >= tries.next_at

    def next_due(self, now: float) -> float:
        """Return when the next try that is not due yet will be; infinity when there is none."""
        due = (t.next_at for t in self._tries.values() if t.next_at > now)
        return min(due, default=float("inf"))
