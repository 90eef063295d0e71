"""What this router process has under way and has seen: the numbers of its report."""

from collections import Counter

from caravan.contracts.instances import Record
from caravan.contracts.reports import DeploymentUse, InstanceUse
from services.router.core.policies import Candidate


class InFlight:
    """Requests under way per deployment and instance, and what instances last answered.

    Every ``begin`` has one ``end``, every ``enter`` one ``leave``: the exchange that counts a
    request up has a single place where it counts it down.
    """

    def __init__(self) -> None:
        self._candidates: dict[str, Candidate] = {}
        self._running: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()

    def candidate(self, key: str, record: Record) -> Candidate:
        """Return the one candidate of the instance ``key``, with its newest record."""
        found = self._candidates.get(key)
        if found is None:
            found = self._candidates[key] = Candidate(key, record)
        if found.record is not record:
            found.record, found.heads = record, {}
        found.gone = False
        return found

    def total(self) -> int:
        """Return how many requests are under way."""
        return self._running.total()

    def enter(self, deployment: str, key_id: str) -> None:
        """Count one request of ``deployment``, and one more use of the key."""
        self._keys[key_id] += 1
        self._running[deployment] += 1

    def leave(self, deployment: str) -> None:
        """Count one request of ``deployment`` less."""
        self._running[deployment] -= 1

    def refused(self, deployment: str) -> None:
        """Count one request that no instance took."""
        self._refused[deployment] += 1

    def forget(self, key: str) -> None:
        """Drop what was seen of an instance that is gone; its running requests stay counted."""
        found = self._candidates.get(key)
        if found is None:
            return
        if not found.in_flight:
            del self._candidates[key]
            return
        found.gone, found.last_answer_at, found.last_error_at, found.last_error = True, 0.0, 0.0, ""

    def deployments(self) -> dict[str, DeploymentUse]:
        """Return the report's part for deployments; those with nothing to say are left out."""
        names = self._running.keys() | self._refused.keys()
        used = {
            name: DeploymentUse(running=self._running[name], refused=self._refused[name])
            for name in names
        }
        return {name: use for name, use in used.items() if use.running or use.refused}

    def instances(self) -> dict[str, InstanceUse]:
        """Return the report's part for instances; those with nothing to say are left out."""
        for key in [key for key, one in self._candidates.items() if one.gone and not one.in_flight]:
            del self._candidates[key]
        return {
            key: _use(one)
            for key, one in self._candidates.items()
            if one.in_flight or one.last_answer_at or one.last_error_at
        }

    def keys(self) -> dict[str, int]:
        """Return requests per key id since the process started."""
        return dict(self._keys)


def _use(one: Candidate) -> InstanceUse:
    return InstanceUse(
        in_flight=one.in_flight,
        last_answer_at=one.last_answer_at,
        last_error_at=one.last_error_at,
        last_error=one.last_error,
    )
