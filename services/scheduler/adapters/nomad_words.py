"""Why Nomad keeps an instance waiting, and how one failed, in words for people."""

import re

from services.scheduler.adapters.nomad_answers import Alloc, Metric, TaskEvent

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_UNITS = {"memory": "MiB of memory", "cpu": "MHz of CPU", "disk": "MiB of disk", "cores": "cores"}
_ASKED = {"memory": "MemoryMB", "cpu": "CPU", "disk": "DiskMB", "cores": "Cores"}
_FILTERED = {
    "missing devices": "no node has such a GPU",
    "missing drivers": "no node has the task driver",
    "missing compatible host volumes": "no node has the volume",
    "missing network": "no node has the network that the port wants",
    "distinct_hosts": "each node has one already",
}


def waiting(metric: Metric | None) -> str:
    """Return why a group fits nowhere, as one sentence without its full stop."""
    if metric is None:
        return "Nomad has not looked for a node yet"
    filtered = [_filtered(what) for what in metric.constraint_filtered or {}]
    exhausted = [_exhausted(what, metric) for what in metric.dimension_exhausted or {}]
    if reasons := list(dict.fromkeys([*exhausted, *filtered])):
        return "; ".join(reasons)
    if not any((metric.nodes_available or {}).values()):
        return "no node stands ready in the node pool and data centers that were asked for"
    return "no node can take it"


def _filtered(what: str) -> str:
    known = next((words for sign, words in _FILTERED.items() if what.startswith(sign)), None)
    return known or f"no free node meets the constraint {what}"


def _exhausted(what: str, metric: Metric) -> str:
    if what.startswith("devices"):
        return "no node has enough GPUs free"
    if what.startswith("network"):
        return "no node has a port free"
    if what in _UNITS:
        asked = _asked(_ASKED[what], metric)
        return f"no node has {asked}{_UNITS[what]} free"
    return f"no node has enough of {what}"


def _asked(resource: str, metric: Metric) -> str:
    for resources in (metric.resources_exhausted or {}).values():
        amount = resources.get(resource)
        if isinstance(amount, int) and amount > 0:
            return f"{amount} "
    return "enough "


def failure(alloc: Alloc) -> str:
    """Return how the allocation ended, as one sentence without its full stop."""
    if alloc.client_status == "lost":
        return f"its node {alloc.node_name} was lost"
    events = alloc.task.events or []
    for event in reversed(events):
        match event.type:
            case "Terminated":
                return _terminated(event, events)
            case "Driver Failure" | "Failed Validation" | "Setup Failure":
                return f"Nomad could not start it: {event.display_message}"
    return alloc.desired_description or "it ended"


def _terminated(event: TaskEvent, events: list[TaskEvent]) -> str:
    details = event.details or {}
    status, signal = details.get("exit_code", ""), details.get("signal", "0")
    killed = any(other.type == "Killing" for other in events)
    if details.get("oom_killed") == "true":
        return "its worker was killed for want of memory: give the model service more"
    if signal == "9" and not killed:  # on some kernels Nomad does not hear of the memory
        return "its worker was killed, by the kernel for want of memory or by somebody"
    if signal not in {"", "0"}:
        return f"its worker was killed by signal {signal}"
    return f"its worker ended with exit status {status or 'unknown'}"


def kill_timeout(alloc: Alloc) -> str:
    """Return how long the node really waits between SIGTERM and SIGKILL, e.g. ``30s``; or ''."""
    for event in alloc.task.events or []:
        if event.type == "Killing":
            return (event.details or {}).get("kill_timeout", "")
    return ""


def seconds(duration: str) -> float:
    """Return a duration as Go writes it, e.g. ``1m30s``, in seconds."""
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", duration)
    return sum(float(amount) * _SECONDS[unit] for amount, unit in parts)
