"""Admin messages in: who answers what."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from caravan.contracts import topology
from caravan.contracts.topology import Endpoint
from caravan.kit.endpoints import Call
from services.scheduler.handlers.changes import Changes
from services.scheduler.handlers.hold import Holds
from services.scheduler.handlers.reads import Reads

Handler = Callable[[Call, Any], Awaitable[Any]]


def endpoints(changes: Changes, reads: Reads, holds: Holds) -> Mapping[Endpoint, Handler]:
    """Return the handler of every endpoint of the scheduler."""
    return {
        topology.CREATE_DEPLOYMENT: changes.create,
        topology.GET_DEPLOYMENT: reads.get,
        topology.LIST_DEPLOYMENTS: reads.page,
        topology.UPDATE_DEPLOYMENT: changes.update,
        topology.SCALE_DEPLOYMENT: changes.scale,
        topology.STOP_DEPLOYMENT: changes.stop,
        topology.START_DEPLOYMENT: changes.start,
        topology.DELETE_DEPLOYMENT: changes.delete,
        topology.RESTORE_DEPLOYMENT: changes.restore,
        topology.LIST_EVENTS: reads.events,
        topology.READ_LOGS: reads.logs,
        topology.HOLD_SCHEDULER: holds.hold,
    }
