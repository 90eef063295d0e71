"""Every bucket, stream, subject and micro endpoint, as data: who writes, who reads, how long."""

from msgspec import Struct

from caravan.contracts import admin
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.instances import Lease, Record
from caravan.contracts.keys import KeyEntry

NATS_MINIMUM = (2, 11)
"""Per-key TTL needs it."""


class Bucket(Struct, frozen=True, kw_only=True):
    """A KV bucket: a cache that its writers can always write again."""

    name: str
    key: str
    writer: str
    value: type
    readers: tuple[str, ...]
    ttl_s: int = 0
    """Of each key, set when it is written; 0 lasts."""
    memory: bool = False
    completed: bool = False
    """Its one writer says in ``_complete`` when it has compared the whole of it."""


class Stream(Struct, frozen=True, kw_only=True):
    name: str
    subjects: tuple[str, ...]
    writer: str
    readers: tuple[str, ...]
    max_age_s: int = 0
    max_bytes: int = -1


class Endpoint(Struct, frozen=True, kw_only=True):
    """A request and its answer; the subject's last token is the tenant where it ends in ``*``."""

    service: str
    subject: str
    request: type[admin.Request]
    answer: type

    @property
    def changes(self) -> bool:
        """Whether it carries a ``request_id`` and is answered once."""
        return issubclass(self.request, admin.Change)

    @property
    def name(self) -> str:
        """The endpoint's name in ``nats micro info``: its subject without prefix and tenant."""
        words = self.subject.removesuffix(".*").split(".")[2:]
        return "-".join(words)

    def of(self, tenant: str = "") -> str:
        """Return the subject to ask for ``tenant``; it takes none where there is none."""
        return self.subject.replace("*", tenant)


LEASE_TTL_S = 10
LEASE_RENEW_S = 3.0

KEYS = Bucket(
    name="keys",
    key="<SHA-256 of the key, hex>",
    writer="auth",
    value=KeyEntry,
    readers=("router",),
    completed=True,
)
DEPLOYMENTS = Bucket(
    name="deployments",
    key="<tenant>.<name>",
    writer="scheduler",
    value=DeploymentEntry,
    readers=("router", "worker", "console"),
    completed=True,
)
INSTANCES = Bucket(
    name="instances",
    key="<tenant>.<name>.<instance>",
    writer="worker",
    value=Record,
    readers=("router", "scheduler"),
)
LEASES = Bucket(
    name="leases",
    key="<tenant>.<name>.<instance>",
    writer="worker",
    value=Lease,
    readers=("scheduler",),
    ttl_s=LEASE_TTL_S,
    memory=True,
)
BUCKETS = (KEYS, DEPLOYMENTS, INSTANCES, LEASES)

DAY_S = 24 * 3600
EVENTS = Stream(
    name="EVENTS",
    subjects=("caravan.events.>",),
    writer="auth, scheduler",
    readers=("console", "operators"),
    max_age_s=30 * DAY_S,
)
DEAD = Stream(
    name="DEAD",
    subjects=("caravan.dead.>",),
    writer="whoever could not read it",
    readers=("operators",),
    max_age_s=30 * DAY_S,
    max_bytes=256 * 2**20,
)
STREAMS = (EVENTS, DEAD)

REPORT = "caravan.report"
"""``caravan.report.<run>``, core NATS: ``caravan.contracts.reports.Report``."""


def event_subject(kind: str, tenant: str, name: str, what: str) -> str:
    """Return where an event is published; an empty token becomes ``_``."""
    return ".".join(["caravan.events", *(token or "_" for token in (kind, tenant, name, what))])


def _deployments(verb: str, request: type[admin.Request], answer: type) -> Endpoint:
    return Endpoint(
        service="scheduler",
        subject=f"caravan.scheduler.deployments.{verb}.*",
        request=request,
        answer=answer,
    )


def _keys(verb: str, request: type[admin.Request], answer: type) -> Endpoint:
    return Endpoint(
        service="auth", subject=f"caravan.auth.keys.{verb}.*", request=request, answer=answer
    )


CREATE_DEPLOYMENT = _deployments("create", admin.CreateDeployment, admin.Deployment)
GET_DEPLOYMENT = _deployments("get", admin.GetDeployment, admin.Deployment)
LIST_DEPLOYMENTS = _deployments("list", admin.ListDeployments, admin.DeploymentPage)
UPDATE_DEPLOYMENT = _deployments("update", admin.UpdateDeployment, admin.Deployment)
SCALE_DEPLOYMENT = _deployments("scale", admin.ScaleDeployment, admin.Deployment)
STOP_DEPLOYMENT = _deployments("stop", admin.StopDeployment, admin.Deployment)
START_DEPLOYMENT = _deployments("start", admin.StartDeployment, admin.Deployment)
DELETE_DEPLOYMENT = _deployments("delete", admin.DeleteDeployment, admin.Deployment)
RESTORE_DEPLOYMENT = _deployments("restore", admin.RestoreDeployment, admin.Deployment)
LIST_EVENTS = _deployments("events", admin.ListEvents, admin.EventPage)
READ_LOGS = _deployments("logs", admin.ReadLogs, admin.LogPage)
HOLD_SCHEDULER = Endpoint(
    service="scheduler",
    subject="caravan.scheduler.hold",
    request=admin.Hold,
    answer=admin.HoldAnswer,
)

CREATE_KEY = _keys("create", admin.CreateKey, admin.KeyCreated)
LIST_KEYS = _keys("list", admin.ListKeys, admin.KeyPage)
REVOKE_KEY = _keys("revoke", admin.RevokeKey, admin.Key)
ROTATE_KEY = _keys("rotate", admin.RotateKey, admin.KeyCreated)
CREATE_TENANT = Endpoint(
    service="auth",
    subject="caravan.auth.tenants.create",
    request=admin.CreateTenant,
    answer=admin.Tenant,
)
LIST_TENANTS = Endpoint(
    service="auth",
    subject="caravan.auth.tenants.list",
    request=admin.ListTenants,
    answer=admin.TenantPage,
)
HOLD_AUTH = Endpoint(
    service="auth", subject="caravan.auth.hold", request=admin.Hold, answer=admin.HoldAnswer
)
ROUTER_STATUS = Endpoint(
    service="router",
    subject="caravan.router.status",
    request=admin.RouterStatusRequest,
    answer=admin.RouterStatus,
)

ENDPOINTS = (
    CREATE_DEPLOYMENT,
    GET_DEPLOYMENT,
    LIST_DEPLOYMENTS,
    UPDATE_DEPLOYMENT,
    SCALE_DEPLOYMENT,
    STOP_DEPLOYMENT,
    START_DEPLOYMENT,
    DELETE_DEPLOYMENT,
    RESTORE_DEPLOYMENT,
    LIST_EVENTS,
    READ_LOGS,
    HOLD_SCHEDULER,
    CREATE_KEY,
    LIST_KEYS,
    REVOKE_KEY,
    ROTATE_KEY,
    CREATE_TENANT,
    LIST_TENANTS,
    HOLD_AUTH,
    ROUTER_STATUS,
)
