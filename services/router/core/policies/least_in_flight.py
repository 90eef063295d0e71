"""The default policy."""

from collections.abc import Sequence

from services.router.core.policies.asks import Ask, Candidate


class LeastInFlight:
    """The fewest requests in flight; a draw among equals, so that routers do not herd.

    The draw is where the search begins: the first of the fewest from there on is taken.
    """

    def choose(self, ask: Ask, candidates: Sequence[Candidate]) -> Candidate:
        count = len(candidates)
        start = int(ask.draw * count)
        best = candidates[start]
        least = best.in_flight
        for n in range(start + 1 - count, start):
            candidate = candidates[n]
            if candidate.in_flight < least:
                best, least = candidate, candidate.in_flight
        return best
