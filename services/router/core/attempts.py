"""Which failure of an attempt allows another one, and where."""

from collections import deque
from enum import Enum

WINDOW_S = 10.0
BUDGET_SHARE = 0.1
BUDGET_FLOOR = 10


class Failure(Enum):
    """How an attempt ended before the client had a byte of the answer."""

    NEVER_DELIVERED = "never_delivered"
    """No connection, or it broke before a byte was sent: the engine knows nothing of it."""
    UNAUTHORIZED = "unauthorized"
    """The engine does not know our key: it is not the one of the record."""
    REFUSED = "refused"
    """502, 503, 504 or 429: it is full, starting or going."""
    BROKEN = "broken"
    """Delivered, then no answer: the request itself may be what broke it."""
    STALE = "stale"
    """As BROKEN, on a connection that had been idle: it may just have been closed."""


class RetryBudget:
    """Retries after refusals: a tenth of the requests of the last 10 s, or 10 if that is more.

    Without it a full deployment would get every request several times. ``requests`` is counted up
    by who lets a request in; it is looked at when somebody wants to retry and each second.
    """

    def __init__(self) -> None:
        self.requests = 0
        """Since the process started."""
        self._counted: deque[tuple[float, int]] = deque()
        self._retries: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Tell whether one more retry fits at ``now``, and count it if so."""
        self.look(now)
        while self._retries and self._retries[0] <= now - WINDOW_S:
            self._retries.popleft()
        recent = self.requests - self._counted[0][1]
        if len(self._retries) >= max(BUDGET_FLOOR, int(BUDGET_SHARE * recent)):
            return False
        self._retries.append(now)
        return True

    def look(self, now: float) -> None:
        """Note how many requests there were up to ``now``, monotonic seconds, once a second."""
        if not self._counted or now - self._counted[-1][0] >= 1.0:
            self._counted.append((now, self.requests))
        while len(self._counted) > 1 and self._counted[1][0] <= now - WINDOW_S:
            self._counted.popleft()


class Attempts:
    """The attempts of one request: where it was, and whether it may go on.

    ============== =========================================================
    never delivered every other instance once, outside any budget
    unauthorized    the same
    refused         another instance, within the budget
    broken          one more instance at most; the same one first if it was stale
    ============== =========================================================
    """

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._broken: set[str] = set()
        self.tried: set[str] = set()
        self.count = 0

    def begin(self, instance: str) -> None:
        """Note that ``instance`` gets the request now."""
        self.tried.add(instance)
        self.count += 1

    def may_go_on(self, failure: Failure, instance: str, now: float, *, others: bool) -> bool:
        """Tell whether the request may go to an instance that is not in ``tried``.

        ``others``: there are such instances; where there are none, no budget is used.
        """
        match failure:
            case Failure.NEVER_DELIVERED | Failure.UNAUTHORIZED:
                return others
            case Failure.REFUSED:
                return others and self._budget.take(now)
            case Failure.BROKEN | Failure.STALE:
                again = failure is Failure.STALE and instance not in self._broken
                self._broken.add(instance)
                if len(self._broken) > 1:
                    return False
                if again:
                    self.tried.discard(instance)
                return others or again
