"""The default policy."""

from collections.abc import Sequence

from services.router.core.policies.asks import Ask, Candidate


class LeastInFlight:
    """The fewest requests in flight; a draw among equals, so that routers do not herd."""

    def choose(self, ask: Ask, candidates: Sequence[Candidate]) -> Candidate:
        fewest = min(c.in_flight for c in candidates)
        equals = [c for c in candidates if c.in_flight == fewest]
        return equals[int(ask.draw * len(equals))]
