"""The job of a deployment as values: its name, its groups, what its text is told."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from caravan.contracts.instances import Spec

PREFIX = "caravan-u-"
STOPPED = "stopped"
_JOB = re.compile(r"caravan-(u-[0-9a-f]{12})-([a-z][a-z0-9-]*)")

Job = Mapping[str, Any]


class Link(Struct, frozen=True):
    """A link that Nomad's UI shows on the job; its URL may hold ``{tenant}`` and ``{name}``."""

    label: str
    url: str


class Terms(Struct, frozen=True, kw_only=True):
    """On what terms instances run on this Nomad: what ``jobs/worker.nomad.hcl`` is told."""

    driver: str = "raw_exec"
    image: str = ""
    host_network: str = "default"
    """The clients' network of which instances get their port and address."""
    datacenters: tuple[str, ...] = ("*",)
    node_pool: str = "default"
    priority: int = 50
    cpu_mhz: int = 1000
    """For an instance whose deployment does not say; so also memory."""
    memory_mib: int = 4096
    margin_s: float = 30.0
    """SIGKILL comes so long after the drain time."""
    first_delay_s: float = 5.0
    """Before the first new try; doubles with each further failure. Nomad takes no less than 5."""
    longest_delay_s: float = 300.0
    links: tuple[Link, ...] = ()


def job_id(tenant: str, name: str) -> str:
    return f"caravan-{tenant}-{name}"


def owner(job: str) -> tuple[str, str] | None:
    """Return tenant and name of the deployment whose job this is, or None when it is none."""
    found = _JOB.fullmatch(job)
    return (found[1], found[2]) if found else None


def kill_timeout_s(spec: Spec, terms: Terms) -> float:
    return spec.drain_s + terms.margin_s


def variables(
    spec: Spec,
    terms: Terms,
    *,
    installation: str,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> dict[str, object]:
    """Return what ``jobs/worker.nomad.hcl`` is told of one instance."""
    return {
        "job": job_id(spec.tenant, spec.name),
        "model": f"{spec.tenant}/{spec.name}",
        "instance": spec.instance,
        "generation": spec.generation,
        "installation": installation,
        "environment": {**environment, "WORKER_SPEC": literal(spec)},
        "command": list(command),
        "kill_timeout": f"{kill_timeout_s(spec, terms):.3f}s",
        "first_delay": f"{terms.first_delay_s:.3f}s",
        "max_delay": f"{terms.longest_delay_s:.3f}s",
        "driver": terms.driver,
        "image": terms.image,
        "host_network": terms.host_network,
        "datacenters": terms.datacenters,
        "node_pool": terms.node_pool,
        "priority": terms.priority,
        "cpu_mhz": int(spec.resources.get("cpu_mhz", terms.cpu_mhz)),
        "memory_mib": int(spec.resources.get("memory_mib", terms.memory_mib)),
        "gpus": int(spec.resources.get("gpus", 0)),
        "links": [{"label": link.label, "url": _filled(link.url, spec)} for link in terms.links],
    }


def literal(spec: Spec) -> str:
    """Return it as JSON in which Nomad finds nothing to fill in."""
    text = msgspec.json.encode(spec).decode()
    return text.replace("$", "\\u0024").replace("%", "\\u0025")


def _filled(url: str, spec: Spec) -> str:
    return url.replace("{tenant}", spec.tenant).replace("{name}", spec.name)


def with_group(job: Job | None, fresh: Job) -> dict[str, Any]:
    """Return ``job`` with the one group of ``fresh`` added; its other groups as they are.

    A job that is not there, or was stopped, begins anew with that group alone.
    """
    if job is None or job.get("Stop"):
        return {**fresh, "Stop": False}
    groups = [*job["TaskGroups"], *fresh["TaskGroups"]]
    return {**job, "TaskGroups": groups, "UI": fresh.get("UI")}


def with_stopped(job: Job, name: str) -> dict[str, Any]:
    """Return ``job`` in which the group stands stopped: of count 0, with a note that we did it.

    It is taken out only when nothing of it runs any more. Nomad 2.0.0 to 2.0.5 crash, all servers
    one after the other, when a group goes while one of their plans still names it.
    """
    groups = [
        {**group, "Count": 0, "Meta": {**(group.get("Meta") or {}), STOPPED: "true"}}
        if group["Name"] == name
        else group
        for group in job["TaskGroups"]
    ]
    return {**job, "TaskGroups": groups}


def without_group(job: Job, name: str) -> dict[str, Any] | None:
    """Return ``job`` without the group, or None when no other is left."""
    groups = [group for group in job["TaskGroups"] if group["Name"] != name]
    return {**job, "TaskGroups": groups} if groups else None


def group(job: Job | None, name: str) -> Job | None:
    """Return the group of the job, or None when it has none of this name."""
    groups: Sequence[Job] = (job or {}).get("TaskGroups") or ()
    return next((each for each in groups if each["Name"] == name), None)


def is_stopped(group: Job) -> bool:
    """Tell whether it is of count 0 because we stopped it."""
    return not group.get("Count") and (group.get("Meta") or {}).get(STOPPED) == "true"


def kill_timeout_of(group: Job) -> float:
    """Return how many seconds the group's task asks for between SIGTERM and SIGKILL; 0 unknown."""
    return max(((task.get("KillTimeout") or 0) / 1e9 for task in group["Tasks"]), default=0.0)
