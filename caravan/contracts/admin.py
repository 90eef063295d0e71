"""Requests and answers of the admin messages; subjects and pairs stand in ``topology.ENDPOINTS``.

The tenant is the last token of the subject, never part of a payload. Every request that changes
something carries ``request_id``, made once per intent: a repeat gets the first answer again.
A field that is not known is refused, so that a misspelt one changes nothing.
"""

from msgspec import UNSET, Raw, Struct, UnsetType

from caravan.contracts.deployments import TEXT_GENERATION
from caravan.contracts.events import Event

STATES = (
    "pending",
    "starting",
    "running",
    "degraded",
    "updating",
    "failed",
    "asleep",
    "stopping",
    "stopped",
    "deleting",
    "deleted",
)
"""What a deployment can be, derived by the scheduler; may grow."""

WAIT_LIMIT_S = 20.0
"""The longest ``wait_s`` of ``events`` and ``logs``."""


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of what is asked."""


class Change(Request, frozen=True, kw_only=True):
    """The root of what changes something."""

    request_id: str
    """1 to 128 characters, new for every intent, the same when one intent is sent again."""


# --- deployments: caravan.scheduler.deployments.<verb>.<tenant>


class CreateDeployment(Change, frozen=True, kw_only=True):
    """``create``: serve a model. Answers at once; instances follow."""

    name: str
    source: str
    """``file:///…`` or ``hf://owner/name[@revision]``."""
    task: str = TEXT_GENERATION
    instances: int = 1
    """0 creates it stopped."""
    engine_args: list[str] = []
    resources: dict[str, float] = {}
    """``cpu_mhz``, ``memory_mib``, ``gpus`` per instance."""
    drain_s: float = 120.0
    stall_s: float = 120.0


class GetDeployment(Request, frozen=True, kw_only=True):
    """``get``: one deployment with its truth lines."""

    name: str


class ListDeployments(Request, frozen=True, kw_only=True):
    """``list``: a page of the tenant's deployments by name, without truth lines."""

    cursor: str = ""
    limit: int = 100


class UpdateDeployment(Change, frozen=True, kw_only=True):
    """``update``: what is left out stays. New source, flags or resources raise the generation."""

    name: str
    source: str | UnsetType = UNSET
    engine_args: list[str] | UnsetType = UNSET
    resources: dict[str, float] | UnsetType = UNSET
    drain_s: float | UnsetType = UNSET
    stall_s: float | UnsetType = UNSET
    in_place: bool = False
    """Drain each old instance before its successor starts: for where there is no room for both."""


class ScaleDeployment(Change, frozen=True, kw_only=True):
    """``scale``: exactly one of ``add`` and ``instances``. 0 instances is stop."""

    name: str
    add: int | None = None
    """So many more; negative: so many fewer."""
    instances: int | None = None
    """So many in all, at most ``MAX_INSTANCES``."""
    remove: list[str] = []
    """With fewer instances: the ones that shall go."""


class StopDeployment(Change, frozen=True, kw_only=True):
    """``stop``: 0 instances, until ``start``."""

    name: str


class StartDeployment(Change, frozen=True, kw_only=True):
    """``start``: back to the last count."""

    name: str


class DeleteDeployment(Change, frozen=True, kw_only=True):
    """``delete``: into the trash for 24 h; the name stays taken until then."""

    name: str
    confirm: str
    """The bare name again."""


class RestoreDeployment(Change, frozen=True, kw_only=True):
    """``restore``: out of the trash, stopped."""

    name: str


class ListEvents(Request, frozen=True, kw_only=True):
    """``events``: what happened after ``cursor``; waits for something up to ``wait_s``."""

    name: str = ""
    """Empty: all of the tenant's deployments."""
    cursor: str = ""
    """As answered before; empty: from the oldest; ``end``: from now on."""
    wait_s: float = 0.0
    limit: int = 100


class ReadLogs(Request, frozen=True, kw_only=True):
    """``logs``: what an instance and its engine print; waits for something up to ``wait_s``."""

    name: str
    instance: str = ""
    """Empty: the deployment's only, else newest, instance."""
    cursor: str = ""
    """As answered before; empty: the last 100 lines."""
    wait_s: float = 0.0


class Hold(Change, frozen=True, kw_only=True):
    """``caravan.<service>.hold``: freeze, so that the service starts, stops and deletes nothing."""

    path: str = ""
    """A deployment's model id; empty: everything of that service."""
    release: bool = False


class TruthLine(Struct, frozen=True, kw_only=True):
    """One instance: what the cluster, its worker and the routers say, why, and what comes next."""

    instance: str
    generation: int
    cluster: str
    """The cluster's word: waiting, running, restarting, ended, unknown."""
    worker: str
    """The worker's: a record's state, or ``silent``."""
    routers: str
    """Their last outcome: ok, failed, none; ejected: one of them at least uses it last."""
    verdict: str
    """serve, suspect, drain, or empty before the first."""
    ready: bool
    """Whether a request may be sent there now."""
    age_s: float
    """Since the newest of these was said, by the scheduler's clock."""
    reason: str
    next_step: str
    in_flight: int = 0
    text: str = ""
    """All of it in one line for people."""


class Deployment(Struct, frozen=True, kw_only=True):
    """What the scheduler says of one deployment."""

    tenant: str
    name: str
    path: str
    """The public model id."""
    task: str
    source: str
    state: str
    """One of ``STATES``."""
    reason: str
    instances: int
    """Asked for."""
    ready: int
    """Ready now."""
    generation: int
    created_at: float
    updated_at: float
    engine_args: list[str] = []
    resources: dict[str, float] = {}
    drain_s: float = 120.0
    stall_s: float = 120.0
    last_instances: int = 0
    """What ``start`` goes back to."""
    held: bool = False
    restorable_until: float = 0.0
    """In the trash: until when; else 0."""
    truth: list[TruthLine] = []
    accepted: bool = False
    """True: written down, but NATS was not there to pass it on; it follows."""
    notes: list[str] = []
    """What the caller should know of this change, e.g. which capacity an update in place takes."""


class DeploymentPage(Struct, frozen=True, kw_only=True):
    items: list[Deployment]
    cursor: str = ""
    """For the next page; empty: this was the last."""
    hold: str = ""
    """Why the scheduler is on hold; empty: it is not."""
    unclaimed: list[str] = []
    """What the cluster runs of this tenant and no row names: ``<name>/<instance>``."""


class EventPage(Struct, frozen=True, kw_only=True):
    items: list[Event]
    cursor: str


class LogPage(Struct, frozen=True, kw_only=True):
    items: list[str]
    """Lines, oldest first."""
    cursor: str
    instance: str


class HoldAnswer(Struct, frozen=True, kw_only=True):
    on_hold: bool
    reason: str = ""
    paths: list[str] = []
    """Deployments held one by one."""


# --- keys: caravan.auth.keys.<verb>.<tenant>; tenants: caravan.auth.tenants.<verb>


class CreateKey(Change, frozen=True, kw_only=True):
    """``create``: the answer is the only place where the secret ever stands."""

    label: str = ""
    expires_in_s: float | None = None
    scopes: list[str] = []
    """Names of deployments that it may use; empty: all of the tenant's."""


class ListKeys(Request, frozen=True, kw_only=True):
    """``list``: all keys of the tenant, without secrets."""

    cursor: str = ""
    limit: int = 100


class RevokeKey(Change, frozen=True, kw_only=True):
    """``revoke``: refused by the routers as soon as the bucket has it."""

    id: str


class RotateKey(Change, frozen=True, kw_only=True):
    """``rotate``: a new secret, the same label and scopes; the old one lives ``grace_s`` more."""

    id: str
    grace_s: float = 0.0


class Key(Struct, frozen=True, kw_only=True):
    """An API key without its secret."""

    id: str
    tenant: str
    label: str
    hint: str
    """The last four characters of the secret."""
    state: str
    """active, expired, revoked"""
    created_at: float
    expires_at: float | None = None
    scopes: list[str] = []


class KeyCreated(Struct, frozen=True, kw_only=True):
    key: Key
    secret: str
    """Shown here and never again."""
    accepted: bool = False
    """True: written down, but NATS was not there to tell the routers; it follows."""


class KeyPage(Struct, frozen=True, kw_only=True):
    items: list[Key]
    cursor: str = ""
    hold: str = ""
    """Why auth is on hold; empty: it is not."""


class CreateTenant(Change, frozen=True, kw_only=True):
    label: str


class ListTenants(Request, frozen=True, kw_only=True):
    """``list``: all tenants."""


class Tenant(Struct, frozen=True, kw_only=True):
    id: str
    label: str
    """``default`` for the one that auth makes at its first start."""
    created_at: float


class TenantPage(Struct, frozen=True, kw_only=True):
    items: list[Tenant]


# --- caravan.router.status


class RouterStatusRequest(Request, frozen=True, kw_only=True):
    """``status``: every router process answers for itself."""


class RouterStatus(Struct, frozen=True, kw_only=True):
    run: str
    url: str
    report: Raw
    """The process's newest ``Report``."""
