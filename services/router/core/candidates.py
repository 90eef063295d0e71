"""Which instances a request may go to, the better ones first."""

from collections.abc import Callable, Collection, Mapping

from caravan.contracts.deployments import SERVE, SUSPECT, DeploymentEntry
from caravan.contracts.instances import READY, Record
from services.router.core.policies import Candidate


class Standing:
    """What this router holds against instances, until it is over."""

    def __init__(self) -> None:
        self._strangers: dict[str, Record] = {}
        self._refuse_until: dict[str, float] = {}

    def unauthorized(self, key: str, record: Record) -> None:
        """Drop the instance until its record changes: who listens there does not know its key."""
        self._strangers[key] = record

    def refuses_until(self, key: str, at: float) -> None:
        """Use the instance last until ``at``, a monotonic time: its engine said so."""
        self._refuse_until[key] = at

    def stranger(self, key: str, record: Record) -> bool:
        """Tell whether the instance is dropped, as long as ``record`` is its record."""
        if self._strangers.get(key) == record:
            return True
        self._strangers.pop(key, None)
        return False

    def refuses(self, key: str, now: float) -> bool:
        """Tell whether the instance's engine asked for time that is not yet over."""
        until = self._refuse_until.get(key)
        if until is not None and until <= now:
            del self._refuse_until[key]
            return False
        return until is not None

    def wait_s(self, keys: Collection[str], now: float) -> float | None:
        """Return how long until the first of ``keys`` takes requests again; None if none asked."""
        waits = [at - now for key, at in self._refuse_until.items() if key in keys and at > now]
        return min(waits, default=None)

    def forget(self, key: str) -> None:
        """Drop what is held against an instance that is gone."""
        self._strangers.pop(key, None)
        self._refuse_until.pop(key, None)


def usable(
    prefix: str,
    entry: DeploymentEntry,
    records: Mapping[str, Record],
    standing: Standing,
) -> dict[str, Record]:
    """Return, by instance key, the ready instances of ``entry`` that may serve.

    ``records`` are those of the deployment whose key is ``prefix``, by instance. No verdict, no
    traffic: an orphan with old weights has none.
    """
    return {
        key: record
        for instance, record in records.items()
        if _serves(entry, instance, record)
        and not standing.stranger(key := f"{prefix}.{instance}", record)
    }


def _serves(entry: DeploymentEntry, instance: str, record: Record) -> bool:
    verdict = entry.verdicts.get(instance)
    return (
        record.state == READY
        and record.url != ""
        and record.generation in entry.generations
        and verdict is not None
        and verdict.word in {SERVE, SUSPECT}
    )


def best(
    entry: DeploymentEntry,
    ready: Mapping[str, Record],
    standing: Standing,
    in_flight: Callable[[str], int],
    now: float,
) -> list[Candidate]:
    """Return those of ``ready`` that a policy shall choose from: the best group that is not empty.

    Trusted ones, then those whose engine asked for time, then the suspects.
    """
    groups: dict[int, list[Candidate]] = {}
    for key, record in ready.items():
        suspect = entry.verdicts[key.rpartition(".")[2]].word == SUSPECT
        rank = 2 if suspect else int(standing.refuses(key, now))
        groups.setdefault(rank, []).append(Candidate(key, record, in_flight(key)))
    return groups[min(groups)] if groups else []
