"""The port to whatever runs instances: Nomad, or processes on this machine.

Every verb is idempotent and returns at once; that something began or ended is *observed* later.
The cluster restarts what fails, with back-off (5 s doubling to 5 min): nobody else does.

What a caller may rely on, on processes and on Nomad alike (one suite holds both to it):

- A worker needs no scheduler to live, and a stop goes on when the one that asked for it dies.
  Whoever comes next sees the same instances; ``start`` of one that is there, in whatever state,
  changes nothing.
- One that was stopped stays listed as ended until it is forgotten. To run the same name again,
  forget it and start it.
- A stop is told by SIGTERM, once. A worker that exits without being asked to, even with status 0,
  has failed.
- Somebody may have changed the cluster by hand: a group that was set to 0 in Nomad is *waiting* and
  says so, a job that was stopped there is *ended*.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from caravan.contracts.instances import Spec

WAITING = "waiting"
RUNNING = "running"
RESTARTING = "restarting"
STOPPING = "stopping"
ENDED = "ended"


class Ref(Struct, frozen=True, order=True):
    """Names an instance in the cluster."""

    tenant: str
    name: str
    instance: str


class Observed(Struct, frozen=True, kw_only=True):
    """What the cluster says of one instance. One that it does not list, it does not know."""

    ref: Ref
    state: str
    """waiting (asked, not placed), running, restarting (failed, next try at ``next_try_at``),
    stopping (asked to stop, its process still runs), ended (stopped, and nothing of it runs)"""
    reason: str = ""
    """Why it waits or failed, in words for people, e.g. ``no node has 40 GiB of memory free``."""
    failures: int = 0
    """Failed lives in a row; 0 again after one of 5 minutes. Nomad counts no further than 6."""
    next_try_at: float = 0.0
    """Seconds since the epoch; 0 when no try is planned."""
    since: float = 0.0
    """When this state began, seconds since the epoch; 0 unknown."""
    allocation: str = ""
    """Names its present life, as the record of that life's worker does; empty unknown."""


class Lines(Struct, frozen=True, kw_only=True):
    """A piece of an instance's log."""

    lines: list[str]
    cursor: str
    """Opaque; asks for what follows."""


class Mark(Struct, frozen=True, kw_only=True):
    """What the cluster remembers of the scheduler that used it last."""

    installation: str
    epoch: int


class Cluster(Protocol):
    """Starts and stops instances by name.

    Raises ``ClusterUnavailableError`` (``services.scheduler.core.errors``) when the cluster does
    not answer, and ``ClusterRefusedError`` when it says no for a reason that a person must mend.
    """

    async def observed(self) -> Sequence[Observed]:
        """Return every instance of this installation, also those that no row names."""
        ...

    async def start(self, spec: Spec) -> None:
        """Have the instance run; one that is there already is left as it is."""
        ...

    async def stop(self, ref: Ref) -> None:
        """Have it end: SIGTERM, its drain time, SIGKILL. One that is not there is no error."""
        ...

    async def forget(self, ref: Ref) -> None:
        """Drop what is left of an instance that has ended; its log goes with it.

        ``ClusterRefusedError`` while anything of it runs or shall run.
        """
        ...

    async def logs(self, ref: Ref, cursor: str) -> Lines:
        """Return what it printed after ``cursor``; an empty cursor gives the last 100 lines.

        Over all its lives, at most 256 KiB at once. ``InstanceNotFoundError`` when it is not known,
        ``InvalidRequestError`` for a cursor that no answer held.
        """
        ...

    async def mark(self) -> Mark | None:
        """Return what was remembered, or None on a new cluster."""
        ...

    async def remember(self, mark: Mark) -> None:
        """Keep ``mark`` where it outlives this process and its database."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever something may have changed; may miss some, and yield for nothing."""
        ...
