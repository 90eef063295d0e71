"""How often one client address may make the router ask a bucket, and what it lacked lately."""

from collections import OrderedDict

LOOK_UPS = 20.0
"""At once; they come back over ``WINDOW_S``."""
WINDOW_S = 10.0
ADDRESSES = 10_000
NAMES = 10_000


class LookUpBound:
    """A token bucket per client address; the addresses that were quiet longest are forgotten."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, now: float) -> bool:
        """Tell whether ``client`` may cause one more look-up at ``now``, and count it if so."""
        left, at = self._left.pop(client, (LOOK_UPS, now))
        left = min(LOOK_UPS, left + (now - at) * LOOK_UPS / WINDOW_S)
        allowed = left >= 1.0
        self._left[client] = (left - 1.0 if allowed else left, now)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return allowed


class LatelyMissing:
    """What a bucket did not have when it was last asked for it, for ``WINDOW_S``.

    For clients that may cause no look-up just now: one that goes on asking for a model that is
    deleted is told so each time. Whoever still may has the bucket asked again, so that what was
    made a moment ago is found.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()

    def note(self, name: str, now: float) -> None:
        """Remember that ``name`` was not there at ``now``."""
        self._seen.pop(name, None)
        self._seen[name] = now
        if len(self._seen) > NAMES:
            self._seen.popitem(last=False)

    def has(self, name: str, now: float) -> bool:
        """Tell whether ``name`` was not there at its last look-up, and that is not long ago."""
        return now - self._seen.get(name, -WINDOW_S) < WINDOW_S

    def forget(self, name: str) -> None:
        """It is there now."""
        self._seen.pop(name, None)
