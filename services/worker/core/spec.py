"""The spec that a worker is given, and what in it no worker can do."""

import msgspec

from caravan.contracts.deployments import EMBEDDING, TEXT_GENERATION
from caravan.contracts.errors import InvalidRequestError
from caravan.contracts.instances import Spec
from caravan.contracts.names import INSTANCE, check_name, check_tenant
from services.worker.core.errors import TaskNotSupportedError

TASKS = (TEXT_GENERATION, EMBEDDING)
_PARAM = "WORKER_SPEC"


def read_spec(text: str) -> Spec:
    """Return the spec in ``text`` (JSON), or refuse it with what is wrong.

    A field that is not known here is skipped: it may be of a newer scheduler.
    """
    try:
        spec = msgspec.json.decode(text, type=Spec)
    except msgspec.MsgspecError as exc:
        raise InvalidRequestError(f"{_PARAM} is no spec: {exc}", param=_PARAM) from None
    check_tenant(spec.tenant)
    check_name(spec.name)
    if INSTANCE.fullmatch(spec.instance) is None:
        message = f"{_PARAM}: {spec.instance[:60]!r} is no instance: it is `i-` and 6 of a-z, 2-7"
        raise InvalidRequestError(message, param=_PARAM)
    _check_times(spec)
    return spec


def check_task(task: str) -> None:
    """Refuse a task that a worker does not offer."""
    if task not in TASKS:
        offered = " and ".join(TASKS)
        message = f"the task {task[:60]!r} is not offered yet: choose {offered}"
        raise TaskNotSupportedError(message, param="task")


def _check_times(spec: Spec) -> None:
    if spec.drain_s < 0 or spec.stall_s <= 0:
        message = f"{_PARAM}: drain_s must be 0 or more and stall_s above 0, both in seconds"
        raise InvalidRequestError(message, param=_PARAM)
