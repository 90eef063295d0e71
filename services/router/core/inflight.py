"""What this router process has under way and has seen: the numbers of its report."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from caravan.contracts.reports import DeploymentUse, InstanceUse


class Seen(Struct):
    """What the newest answers of one instance were."""

    last_answer_at: float = 0.0
    last_error_at: float = 0.0
    last_error: str = ""


class InFlight:
    """Requests under way per deployment and instance; every count is given back by construction."""

    def __init__(self) -> None:
        self._instances: Counter[str] = Counter()
        self._deployments: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._seen: dict[str, Seen] = {}

    def of(self, instance: str) -> int:
        """Return how many requests are at ``instance`` (a key of the bucket ``instances``)."""
        return self._instances[instance]

    def total(self) -> int:
        """Return how many requests are under way."""
        return self._deployments.total()

    @contextmanager
    def at_instance(self, instance: str) -> Iterator[None]:
        """Count one request at ``instance`` until it ends, however it ends."""
        with _counted(self._instances, instance):
            yield

    @contextmanager
    def at_deployment(self, deployment: str, key_id: str) -> Iterator[None]:
        """Count one request of ``deployment`` until it ends, and one more use of the key."""
        self._keys[key_id] += 1
        with _counted(self._deployments, deployment):
            yield

    def refused(self, deployment: str) -> None:
        """Count one request that no instance took."""
        self._refused[deployment] += 1

    def answered(self, instance: str, at: float) -> None:
        """Note a good answer of ``instance`` at ``at``, seconds since the epoch."""
        self._seen.setdefault(instance, Seen()).last_answer_at = at

    def failed(self, instance: str, at: float, why: str) -> None:
        """Note a failure of ``instance`` at ``at``, seconds since the epoch."""
        seen = self._seen.setdefault(instance, Seen())
        seen.last_error_at, seen.last_error = at, why

    def forget(self, instance: str) -> None:
        """Drop what was seen of an instance that is gone; its running requests stay counted."""
        self._seen.pop(instance, None)

    def deployments(self) -> dict[str, DeploymentUse]:
        """Return the report's part for deployments; those with nothing to say are left out."""
        names = self._deployments.keys() | self._refused.keys()
        return {
            name: DeploymentUse(running=self._deployments[name], refused=self._refused[name])
            for name in names
        }

    def instances(self) -> dict[str, InstanceUse]:
        """Return the report's part for instances; those with nothing to say are left out."""
        return {name: self._instance(name) for name in self._instances.keys() | self._seen.keys()}

    def _instance(self, name: str) -> InstanceUse:
        seen = self._seen.get(name) or Seen()
        return InstanceUse(
            in_flight=self._instances[name],
            last_answer_at=seen.last_answer_at,
            last_error_at=seen.last_error_at,
            last_error=seen.last_error,
        )

    def keys(self) -> dict[str, int]:
        """Return requests per key id since the process started."""
        return dict(self._keys)


@contextmanager
def _counted(counter: Counter[str], name: str) -> Iterator[None]:
    counter[name] += 1
    try:
        yield
    finally:
        counter[name] -= 1
        if not counter[name]:
            del counter[name]
