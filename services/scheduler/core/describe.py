"""What a deployment is called to those who asked: the answer of every admin message."""

from collections.abc import Sequence

from caravan.contracts import admin, names
from services.scheduler.core.rows import Asked
from services.scheduler.core.sight import Sight
from services.scheduler.core.status import Status
from services.scheduler.core.truth import Clock, truth_line


def describe(asked: Asked, status: Status, notes: Sequence[str] = ()) -> admin.Deployment:
    """Return the deployment without truth lines."""
    return admin.Deployment(
        tenant=asked.tenant,
        name=asked.name,
        path=names.path(asked.tenant, asked.name),
        task=asked.task,
        source=asked.source,
        state=status.state,
        reason=status.reason,
        instances=asked.instances,
        ready=status.ready,
        generation=asked.generation,
        created_at=asked.created_at,
        updated_at=asked.updated_at,
        engine_args=asked.engine_args,
        resources=asked.resources,
        drain_s=asked.drain_s,
        stall_s=asked.stall_s,
        last_instances=asked.last_instances,
        held=asked.held,
        restorable_until=asked.restorable_until,
        notes=list(notes),
    )


def truth(seen: Sequence[Sight], clock: Clock, *, heard: bool) -> list[admin.TruthLine]:
    """Return one line per instance, the oldest first."""
    order = sorted(seen, key=lambda s: (s.row.named_at, s.row.instance))
    return [truth_line(sight, clock, heard=heard) for sight in order]
