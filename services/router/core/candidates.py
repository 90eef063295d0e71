"""Which instances a request may go to, the better ones first."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from caravan.contracts import names
from caravan.contracts.deployments import SERVE, SUSPECT, DeploymentEntry
from caravan.contracts.instances import READY, Record
from services.router.core import admission
from services.router.core.inflight import InFlight, Load
from services.router.core.policies import Candidate, Policy, policy
from services.router.core.ports import Views


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

    def refuses(self, key: str, now: float) -> float:
        """Return until when the instance's engine asked for time; 0 when that is over."""
        until = self._refuse_until.get(key, 0.0)
        if until and until <= now:
            del self._refuse_until[key]
            return 0.0
        return until

    def wait_s(self, keys: Collection[str], now: float) -> float | None:
        """Return how long until the first of ``keys`` takes requests again; None if none asked."""
        waits = [at - now for key, at in self._refuse_until.items() if key in keys and at > now]
        return min(waits, default=None)

    def forget(self, key: str) -> None:
        """Drop what is held against an instance that is gone."""
        self._strangers.pop(key, None)
        self._refuse_until.pop(key, None)


class Target(Struct, eq=False):
    """A deployment as requests meet it now: worked out when something changes, not per request."""

    name: str
    """Its key in the bucket ``deployments``."""
    tenant: str
    entry: DeploymentEntry
    fits: Collection[str]
    """The routes that it answers on; none when it is being deleted."""
    load: Load
    policy: Policy
    groups: Sequence[Sequence[Candidate]]
    """Trusted ones, those whose engine asked for time, suspects, ejected ones; none is empty."""
    until: float
    """Monotonic seconds at which it has to be worked out again, whatever happens."""

    def choose_from(self, tried: Collection[str]) -> Sequence[Candidate]:
        """Return those that a policy shall choose from: the best group that has an untried one."""
        for group in self.groups:
            left = [one for one in group if one.key not in tried] if tried else group
            if left:
                return left
        return ()

    def keys(self) -> set[str]:
        """Return the instance keys of all that may serve."""
        return {one.key for group in self.groups for one in group}


class Targets:
    """The targets of all deployments that were asked for.

    ``changed`` must be called with the bucket key of a deployment whenever its entry, one of its
    records or what is held against one of its instances has changed.
    """

    def __init__(self, views: Views, in_flight: InFlight, ejected: Callable[[str], bool]) -> None:
        self._views, self._in_flight, self._ejected = views, in_flight, ejected
        self.by_path: dict[str, Target] = {}
        """Read by who is in a hurry; what is there may be out of date: see :meth:`known`."""
        self.standing = Standing()

    def known(self, path: str, now: float) -> Target | None:
        """Return the target of a model id; None when it has to be worked out by :meth:`of`."""
        found = self.by_path.get(path)
        return found if found is not None and now < found.until else None

    def of(self, path: str, name: str, now: float) -> Target | None:
        """Return the target of a model id whose bucket key is ``name``; None without an entry."""
        found = self.known(path, now)
        if found is not None:
            return found
        entry = self._views.deployment(name)
        if entry is None:
            return None
        self.by_path[path] = found = self._target(name, entry, now)
        return found

    def changed(self, name: str) -> None:
        """Forget the target of the deployment whose bucket key is ``name``."""
        self.by_path.pop(names.path(*name.split(".", 1)) if "." in name else name, None)

    def changed_instance(self, key: str) -> None:
        """Forget the target of the deployment of an instance."""
        self.changed(key.rpartition(".")[0])

    def _target(self, name: str, entry: DeploymentEntry, now: float) -> Target:
        ready = usable(name, entry, self._views.records(name), self.standing)
        groups: dict[int, list[Candidate]] = {}
        until = math.inf
        for key, record in ready.items():
            asked_until = self.standing.refuses(key, now)
            until = min(until, asked_until or math.inf)
            rank = self._rank(key, entry, refuses=asked_until > 0)
            groups.setdefault(rank, []).append(self._in_flight.candidate(key, record))
        return Target(
            name=name,
            tenant=name.partition(".")[0],
            entry=entry,
            fits=admission.routes_of(entry),
            load=self._in_flight.load(name),
            policy=policy(entry.policy),
            groups=[groups[rank] for rank in sorted(groups)],
            until=until,
        )

    def _rank(self, key: str, entry: DeploymentEntry, *, refuses: bool) -> int:
        if self._ejected(key):
            return 3
        if entry.verdicts[key.rpartition(".")[2]].word == SUSPECT:
            return 2
        return int(refuses)


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
