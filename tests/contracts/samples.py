"""One value of everything that crosses the bus, every field set: what the golden files hold."""

from msgspec import Raw, structs

from caravan.contracts import admin, deployments, events, instances, keys, reports, topology
from caravan.contracts.errors import Problem

TENANT = "u-8105f7322477"
AT = 1764085000.5

LINE = admin.TruthLine(
    instance="i-aaaaaa",
    generation=2,
    cluster="running",
    worker="ready",
    routers="ok",
    verdict="serve",
    ready=True,
    age_s=0.5,
    reason="",
    next_step="",
    in_flight=3,
    text="i-aaaaaa serves",
)
DEPLOYMENT = admin.Deployment(
    tenant=TENANT,
    name="test",
    path=f"{TENANT}/test",
    task="text-generation",
    source="hf://HuggingFaceTB/SmolLM2-135M-Instruct@main",
    state="running",
    reason="",
    instances=1,
    ready=1,
    generation=2,
    created_at=AT,
    updated_at=AT + 1,
    engine_args=["--mem-fraction-static", "0.8"],
    resources={"gpus": 1.0, "memory_mib": 8192.0},
    drain_s=60.0,
    stall_s=90.0,
    last_instances=1,
    held=False,
    restorable_until=AT + 86400,
    truth=[LINE],
    accepted=True,
    notes=["one instance at a time"],
)
EVENT = events.Event(
    number=17,
    owner="scheduler",
    at=AT,
    kind="deployment",
    tenant=TENANT,
    name="test",
    what="scaled",
    actor="ada",
    detail=Raw(b'{"from":1,"to":3}'),
)
KEY = admin.Key(
    id="k-4f2a9c",
    tenant=TENANT,
    label="laptop",
    hint="x9Qa",
    state="active",
    created_at=AT,
    expires_at=AT + 3600,
    scopes=[f"{TENANT}/test"],
)
HELD = admin.HoldAnswer(on_hold=True, reason="by hand", paths=[f"{TENANT}/test"])
HOLD = admin.Hold(request_id="r-12", path=f"{TENANT}/test", release=True)
REPORT = reports.Report(
    run="0b0e8d0e-3a0b-4b61-8f5d-6c9c56a6f3c5",
    number=42,
    at=AT,
    positions={
        "deployments": reports.Position(
            created="2026-11-25T15:00:00.123456+00:00", sequence=99, complete=True, age_s=0.4
        )
    },
    deployments={f"{TENANT}.test": reports.DeploymentUse(running=2, waiting=1, refused=3)},
    instances={
        f"{TENANT}.test.i-aaaaaa": reports.InstanceUse(
            in_flight=2, last_answer_at=AT, last_error_at=AT - 5, last_error="connection refused"
        )
    },
    keys={"k-4f2a9c": 7},
    leaving=True,
)
EJECTED = structs.replace(
    REPORT,
    instances={
        f"{TENANT}.test.i-aaaaaa": reports.InstanceUse(
            in_flight=2,
            last_answer_at=AT - 9,
            last_error_at=AT - 5,
            last_error="connection refused",
            ejected=True,
            failures=3,
        )
    },
)

VALUES = {
    "instances.record": instances.Record(
        incarnation="7a0a2f6e-54e6-4f0a-a8ab-5ad4b1c9e1d1",
        term=3,
        generation=2,
        state="ready",
        url="http://127.0.0.1:30000",
        engine_key="engine-secret",
        max_running=32,
        max_model_len=8192,
        allocation="a1b2c3d4-0000-0000-0000-000000000000",
        reason="the engine ended with status 1",
        last_lines=["Traceback", "RuntimeError: out of memory"],
        since=AT,
    ),
    "instances.lease": instances.Lease(
        incarnation="7a0a2f6e-54e6-4f0a-a8ab-5ad4b1c9e1d1",
        state="loading",
        running=2,
        waiting=1,
        cache_hit_rate=0.5,
        tokens_per_s=17.25,
        progress=instances.Progress(done_bytes=1024, total_bytes=4096),
        last_answer_at=AT,
    ),
    "instances.spec": instances.Spec(
        tenant=TENANT,
        name="test",
        instance="i-aaaaaa",
        generation=2,
        task="text-generation",
        source="file:///models/test",
        engine_args=["--tp", "1"],
        drain_s=60.0,
        stall_s=90.0,
        resources={"cpu_mhz": 2000.0},
    ),
    "deployments.entry": deployments.DeploymentEntry(
        task="text-generation",
        generations=[1, 2],
        state="updating",
        verdicts={
            "i-aaaaaa": deployments.Verdict(word="serve"),
            "i-bbbbbb": deployments.Verdict(word="drain", deadline=AT + 120),
        },
        reason="one instance is being replaced",
        policy="least-in-flight",
        limits={"requests_per_minute": 600.0},
        drain_s=60.0,
        stall_s=90.0,
        created_at=AT,
        epoch=17,
    ),
    "deployments.complete": deployments.Complete(
        created="2026-11-25T15:00:00.123456+00:00", epoch=17
    ),
    "keys.entry": keys.KeyEntry(
        id="k-4f2a9c",
        tenant=TENANT,
        state="active",
        expires_at=AT + 3600,
        scopes=[f"{TENANT}/test"],
        limits={"requests_per_minute": 60.0},
    ),
    "events.event": EVENT,
    "reports.report": REPORT,
    "reports.report-ejected": EJECTED,
    "errors.problem": Problem(
        code="name_taken", message="test exists: choose another name", param="name"
    ),
}
"""By the name of the golden file: what stands in a bucket, a stream or a report."""

REQUESTS = {
    topology.CREATE_DEPLOYMENT: admin.CreateDeployment(
        request_id="r-1",
        name="test",
        source="hf://HuggingFaceTB/SmolLM2-135M-Instruct",
        task="text-generation",
        instances=2,
        engine_args=["--tp", "1"],
        resources={"gpus": 1.0},
        drain_s=60.0,
        stall_s=90.0,
    ),
    topology.GET_DEPLOYMENT: admin.GetDeployment(name="test"),
    topology.LIST_DEPLOYMENTS: admin.ListDeployments(cursor="test", limit=10),
    topology.UPDATE_DEPLOYMENT: admin.UpdateDeployment(
        request_id="r-2",
        name="test",
        source="file:///models/test",
        engine_args=[],
        resources={},
        drain_s=30.0,
        stall_s=60.0,
        in_place=True,
    ),
    topology.SCALE_DEPLOYMENT: admin.ScaleDeployment(
        request_id="r-3", name="test", add=-1, instances=None, remove=["i-aaaaaa"]
    ),
    topology.STOP_DEPLOYMENT: admin.StopDeployment(request_id="r-4", name="test"),
    topology.START_DEPLOYMENT: admin.StartDeployment(request_id="r-5", name="test"),
    topology.DELETE_DEPLOYMENT: admin.DeleteDeployment(
        request_id="r-6", name="test", confirm="test"
    ),
    topology.RESTORE_DEPLOYMENT: admin.RestoreDeployment(request_id="r-7", name="test"),
    topology.LIST_EVENTS: admin.ListEvents(name="test", cursor="17", wait_s=20.0, limit=10),
    topology.READ_LOGS: admin.ReadLogs(name="test", instance="i-aaaaaa", cursor="9", wait_s=5.0),
    topology.HOLD_SCHEDULER: HOLD,
    topology.CREATE_KEY: admin.CreateKey(
        request_id="r-8", label="laptop", expires_in_s=3600.0, scopes=["test"]
    ),
    topology.LIST_KEYS: admin.ListKeys(cursor="k-1", limit=10),
    topology.REVOKE_KEY: admin.RevokeKey(request_id="r-9", id="k-4f2a9c"),
    topology.ROTATE_KEY: admin.RotateKey(request_id="r-10", id="k-4f2a9c", grace_s=60.0),
    topology.CREATE_TENANT: admin.CreateTenant(request_id="r-11", label="physics"),
    topology.LIST_TENANTS: admin.ListTenants(),
    topology.HOLD_AUTH: HOLD,
    topology.ROUTER_STATUS: admin.RouterStatusRequest(),
}

_CREATED = admin.KeyCreated(key=KEY, secret="ck-not-a-real-one", accepted=True)
_TENANT = admin.Tenant(id=TENANT, label="default", created_at=AT)

ANSWERS = {
    topology.CREATE_DEPLOYMENT: DEPLOYMENT,
    topology.GET_DEPLOYMENT: DEPLOYMENT,
    topology.LIST_DEPLOYMENTS: admin.DeploymentPage(
        items=[DEPLOYMENT],
        cursor="test",
        hold="the database is behind the cluster",
        unclaimed=["old/i-cccccc"],
    ),
    topology.UPDATE_DEPLOYMENT: DEPLOYMENT,
    topology.SCALE_DEPLOYMENT: DEPLOYMENT,
    topology.STOP_DEPLOYMENT: DEPLOYMENT,
    topology.START_DEPLOYMENT: DEPLOYMENT,
    topology.DELETE_DEPLOYMENT: DEPLOYMENT,
    topology.RESTORE_DEPLOYMENT: DEPLOYMENT,
    topology.LIST_EVENTS: admin.EventPage(items=[EVENT], cursor="17"),
    topology.READ_LOGS: admin.LogPage(items=["ready"], cursor="10", instance="i-aaaaaa"),
    topology.HOLD_SCHEDULER: HELD,
    topology.CREATE_KEY: _CREATED,
    topology.LIST_KEYS: admin.KeyPage(items=[KEY], cursor="k-4f2a9c", hold="behind"),
    topology.REVOKE_KEY: KEY,
    topology.ROTATE_KEY: _CREATED,
    topology.CREATE_TENANT: _TENANT,
    topology.LIST_TENANTS: admin.TenantPage(items=[_TENANT]),
    topology.HOLD_AUTH: HELD,
    topology.ROUTER_STATUS: admin.RouterStatus(
        run=REPORT.run, url="http://127.0.0.1:8000", report=Raw(b'{"type":"report.v1"}')
    ),
}
