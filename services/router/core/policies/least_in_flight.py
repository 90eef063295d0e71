"""The default policy."""

from collections.abc import Sequence

from services.router.core.policies.asks import Ask, Candidate


class LeastInFlight:
    """The fewest requests in flight; a draw among equals, so that routers do not herd."""

    def choose(self, ask: Ask, candidates: Sequence[Candidate]) -> Candidate:
        best, equals = candidates[0], 1
        for candidate in candidates[1:]:
            if candidate.in_flight < best.in_flight:
                best, equals = candidate, 1
            elif candidate.in_flight == best.in_flight:
                equals += 1
        return best if equals == 1 else _drawn(best.in_flight, equals, ask.draw, candidates)


def _drawn(fewest: int, equals: int, draw: float, candidates: Sequence[Candidate]) -> Candidate:
    skip = int(draw * equals)
    for candidate in candidates:
        if candidate.in_flight == fewest:
            if not skip:
                return candidate
            skip -= 1
    return candidates[0]
