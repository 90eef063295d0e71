"""What the bucket ``deployments`` says of a deployment to routers and workers."""

import re
from collections.abc import Sequence

from caravan.contracts.deployments import DeploymentEntry
from services.scheduler.core.rows import RUN, Asked
from services.scheduler.core.sight import Sight
from services.scheduler.core.status import Status


def entry(asked: Asked, seen: Sequence[Sight], status: Status) -> DeploymentEntry | None:
    """Return the entry, or None when the bucket shall have none: deleted, and nothing left."""
    if asked.deleted_at and not seen:
        return None
    serving = {s.row.generation for s in seen if s.row.wanted == RUN}
    return DeploymentEntry(
        task=asked.task,
        generations=sorted(serving | {asked.generation}),
        state=status.state,
        verdicts={s.row.instance: s.verdict for s in seen},
        reason=public(status.reason),
        drain_s=asked.drain_s,
        stall_s=asked.stall_s,
        created_at=asked.created_at,
        epoch=asked.event,
    )


_PLACES = re.compile(
    r"(file://|(?<![\w/:]))/[\w.+-]+(/[\w.+-]*)*"  # a path
    r"|\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b"  # an address
)


def public(reason: str) -> str:
    """Return a reason without paths and addresses of machines: clients of the router see it."""
    return _PLACES.sub("…", reason)
