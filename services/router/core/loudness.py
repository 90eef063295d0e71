"""How many lines may be written for requests that went well."""


class Loudness:
    """A token bucket for log lines: ``rate_per_s`` of them for long, ``burst`` at once.

    Kept as the moment from which the next line may be written (GCRA), so that a line left out costs
    a comparison and a count. A rate of 0 lets none through.
    """

    def __init__(self, rate_per_s: float, burst: float | None = None) -> None:
        """Take one second's lines as ``burst`` where none is given; at least one line."""
        self._gap_s = 1.0 / rate_per_s if rate_per_s > 0 else 0.0
        allowed = max(1.0, rate_per_s if burst is None else burst)
        self._ahead_s = (allowed - 1.0) * self._gap_s
        self._from = float("-inf") if rate_per_s > 0 else float("inf")
        self._told = 0
        self.left_out = 0
        """Lines left out since the start."""

    def take(self, now: float) -> bool:
        """Tell whether a line may be written at ``now`` (monotonic seconds); count it if not."""
        if now < self._from:
            self.left_out += 1
            return False
        self._from = max(self._from, now - self._ahead_s) + self._gap_s
        return True

    def untold(self) -> int:
        """Return the lines left out since this was asked last."""
        untold = self.left_out - self._told
        self._told = self.left_out
        return untold
