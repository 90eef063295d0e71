"""How often one client address may make the router ask a bucket."""

from collections import OrderedDict

LOOK_UPS = 20.0
"""At once; they come back over ``WINDOW_S``."""
WINDOW_S = 10.0
ADDRESSES = 10_000


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
