"""What this router process has under way and has seen: the numbers of its report."""

from collections import Counter

from msgspec import Struct

from caravan.contracts.instances import Record
from caravan.contracts.reports import DeploymentUse, InstanceUse
from services.router.core.policies import Candidate


class Load(Struct, eq=False):
    """Requests of one deployment. One object per deployment for as long as the process runs."""

    running: int = 0
    refused: int = 0
    """Those that no instance took, since the process started."""


class InFlight:
    """Requests under way per deployment and instance, and what instances last answered.

    The counts stand in objects that a request holds from its start to its end, so that counting
    costs no look-up. What counts up has a single place where it counts down: see the exchange.
    """

    def __init__(self) -> None:
        self._candidates: dict[str, Candidate] = {}
        self._loads: dict[str, Load] = {}
        self.uses: Counter[str] = Counter()
        """Requests per key id since the process started."""

    def load(self, deployment: str) -> Load:
        """Return the one load of a deployment, by its key in the bucket ``deployments``."""
        return self._loads.get(deployment) or self._loads.setdefault(deployment, Load())

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
        return sum(load.running for load in self._loads.values())

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
        return {
            name: DeploymentUse(running=load.running, refused=load.refused)
            for name, load in self._loads.items()
            if load.running or load.refused
        }

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
        return dict(self.uses)


def _use(one: Candidate) -> InstanceUse:
    return InstanceUse(
        in_flight=one.in_flight,
        last_answer_at=one.last_answer_at,
        last_error_at=one.last_error_at,
        last_error=one.last_error,
    )
