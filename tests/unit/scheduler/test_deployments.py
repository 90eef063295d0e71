"""What each admin message makes of a deployment, and what it refuses."""

import pytest
from msgspec.structs import replace

from caravan.contracts import admin
from caravan.contracts.errors import Refusal
from services.scheduler.core import deployments as d
from services.scheduler.core import sources
from services.scheduler.core.cluster import Mark
from services.scheduler.core.hold import judge
from services.scheduler.core.rows import DRAIN, Asked, Named

TENANT = "u-0123456789ab"


def new(**more):
    return admin.CreateDeployment(
        **{"request_id": "1", "name": "test", "source": "file:///models/m", **more}
    )


ASKED = d.create(new(instances=2), TENANT, None, 100.0).asked
STOPPED = replace(ASKED, instances=0)
TRASHED = replace(STOPPED, deleted_at=100.0)
ROWS = [Named(spec=ASKED.spec("i-aaaaaa")), Named(spec=ASKED.spec("i-bbbbbb"))]


def refused(call, *args, **more):
    with pytest.raises(Refusal) as caught:
        call(*args, **more)
    return caught.value.problem.code, caught.value.problem.param


def test_create_writes_down_what_was_asked():
    change = d.create(new(instances=2, engine_args=["--x"]), TENANT, None, 100.0)
    assert change.what == "created"
    assert change.asked == replace(ASKED, engine_args=["--x"])
    assert (ASKED.instances, ASKED.last_instances, ASKED.generation) == (2, 2, 1)


def test_created_with_0_instances_it_is_stopped_and_start_brings_1():
    asked = d.create(new(instances=0), TENANT, None, 100.0).asked
    assert asked.instances == 0
    assert d.start(admin.StartDeployment(request_id="2", name="test"), asked, 1.0).asked == replace(
        asked, instances=1, updated_at=1.0
    )


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"name": "Test"}, "invalid_request", "name"),
        ({"name": ""}, "invalid_request", "name"),
        ({"name": "a" * 41}, "invalid_request", "name"),
        ({"task": "rerank"}, "task_not_supported", "task"),
        ({"task": "cooking"}, "invalid_request", "task"),
        ({"source": "s3://bucket/model"}, "source_not_supported", "source"),
        ({"source": "/models/m"}, "source_not_supported", "source"),
        ({"source": "file://models/m"}, "invalid_request", "source"),
        ({"source": "file:///"}, "invalid_request", "source"),
        ({"source": "hf://name"}, "invalid_request", "source"),
        ({"source": "file:///" + "m" * 3000}, "invalid_request", "source"),
        ({"instances": -1}, "invalid_request", "instances"),
        ({"instances": 65}, "too_many_instances", "instances"),
        ({"engine_args": ["--port=1"]}, "invalid_request", "engine_args"),
        ({"engine_args": ["x"] * 65}, "invalid_request", "engine_args"),
        ({"resources": {"gpu": 1}}, "invalid_request", "resources"),
        ({"resources": {"gpus": 0.5}}, "invalid_request", "resources"),
        ({"resources": {"memory_mib": float("nan")}}, "invalid_request", "resources"),
        ({"drain_s": -1}, "invalid_request", "drain_s"),
        ({"stall_s": 0}, "invalid_request", "stall_s"),
    ],
)
def test_create_refuses_what_could_not_be_served(more, code, param):
    assert refused(d.create, new(**more), TENANT, None, 1.0) == (code, param)


@pytest.mark.parametrize("source", ["hf://owner/name", "hf://owner/name@v1.0", "file:///a/b c"])
def test_sources_that_workers_understand(source):
    assert sources.check_source(source) == source


def test_a_name_is_taken_until_the_trash_forgets_it():
    assert refused(d.create, new(), TENANT, ASKED, 1.0) == ("name_taken", "name")
    assert refused(d.create, new(), TENANT, TRASHED, 1.0) == ("name_in_trash", "name")


def scaling(**more):
    return admin.ScaleDeployment(request_id="1", name="test", **more)


@pytest.mark.parametrize(
    ("more", "count"), [({"add": 2}, 4), ({"add": -1}, 1), ({"instances": 7}, 7), ({"add": 62}, 64)]
)
def test_scale_adds_or_sets(more, count):
    change = d.scale(scaling(**more), ASKED, ROWS, 5.0)
    assert (change.asked.instances, change.asked.last_instances) == (count, count)
    assert change.asked.generation == ASKED.generation


def test_scale_to_0_is_stop_and_keeps_the_last_count():
    change = d.scale(scaling(instances=0), ASKED, ROWS, 5.0)
    assert change.what == "stopped"
    assert (change.asked.instances, change.asked.last_instances) == (0, 2)


def test_scale_drains_those_that_were_named():
    change = d.scale(scaling(add=-1, remove=["i-bbbbbb"]), ASKED, ROWS, 5.0)
    assert change.rows == [replace(ROWS[1], wanted=DRAIN, deadline=125.0)]


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({}, "invalid_request", "instances"),
        ({"add": 1, "instances": 3}, "invalid_request", "instances"),
        ({"add": -3}, "invalid_request", "add"),
        ({"instances": -1}, "invalid_request", "instances"),
        ({"add": 63}, "too_many_instances", "add"),
        ({"add": -1, "remove": ["i-cccccc"]}, "instance_not_found", "remove"),
        ({"add": -1, "remove": ["i-aaaaaa", "i-bbbbbb"]}, "invalid_request", "remove"),
        ({"add": 1, "remove": ["i-aaaaaa"]}, "invalid_request", "remove"),
    ],
)
def test_scale_refuses_what_makes_no_sense(more, code, param):
    assert refused(d.scale, scaling(**more), ASKED, ROWS, 5.0) == (code, param)


def updating(**more):
    return admin.UpdateDeployment(request_id="1", name="test", **more)


@pytest.mark.parametrize(
    ("more", "generation"),
    [
        ({"source": "file:///models/other"}, 2),
        ({"engine_args": ["--dtype", "half"]}, 2),
        ({"resources": {"gpus": 1}}, 2),
        ({"drain_s": 5.0}, 1),
        ({"stall_s": 5.0}, 1),
        ({"source": ASKED.source}, 1),
    ],
)
def test_only_what_needs_new_engines_raises_the_generation(more, generation):
    assert d.update(updating(**more), ASKED, 5.0).asked.generation == generation


def test_the_user_is_told_what_an_update_takes_before_it_begins():
    surge = d.update(updating(source="file:///models/o"), ASKED, 5.0)
    assert surge.notes == ["one instance more than asked runs while the update lasts"]
    in_place = d.update(updating(source="file:///models/o", in_place=True), ASKED, 5.0)
    assert in_place.asked.in_place
    assert "1 of 2 serve meanwhile" in in_place.notes[0]


def test_what_is_so_already_is_no_event():
    assert d.update(updating(source=ASKED.source), ASKED, 5.0).what == ""
    assert d.scale(scaling(instances=2), ASKED, ROWS, 5.0).what == ""
    assert d.stop(admin.StopDeployment(request_id="1", name="test"), STOPPED, 5.0).what == ""
    assert d.start(admin.StartDeployment(request_id="1", name="test"), ASKED, 5.0).what == ""


def test_stop_and_start_come_back_to_the_last_count():
    stopped = d.stop(admin.StopDeployment(request_id="1", name="test"), ASKED, 5.0).asked
    assert stopped.instances == 0
    started = d.start(admin.StartDeployment(request_id="2", name="test"), stopped, 6.0).asked
    assert started.instances == 2


def test_delete_wants_the_bare_name_again_and_restore_undoes_it():
    def deleting(confirm):
        return admin.DeleteDeployment(request_id="1", name="test", confirm=confirm)

    assert refused(d.delete, deleting(f"{TENANT}/test"), ASKED, 5.0) == (
        "confirmation_mismatch",
        "confirm",
    )
    deleted = d.delete(deleting("test"), ASKED, 5.0).asked
    assert (deleted.deleted_at, deleted.instances) == (5.0, 0)
    assert deleted.restorable_until == 5.0 + 24 * 3600
    restored = d.restore(admin.RestoreDeployment(request_id="2", name="test"), deleted, 6.0).asked
    assert (restored.deleted_at, restored.instances, restored.last_instances) == (0.0, 0, 2)


def test_what_is_not_there_or_in_the_trash_cannot_be_changed():
    stop = admin.StopDeployment(request_id="1", name="test")
    restore = admin.RestoreDeployment(request_id="1", name="test")
    assert refused(d.stop, stop, None, 5.0) == ("deployment_not_found", "name")
    assert refused(d.stop, stop, TRASHED, 5.0) == ("name_in_trash", "name")
    assert refused(d.restore, restore, ASKED, 5.0) == ("not_in_trash", "name")


def test_a_held_deployment_takes_no_change():
    held = d.hold(ASKED, held=True, now=5.0).asked
    assert refused(d.free, held) == ("on_hold", "name")
    assert d.hold(held, held=True, now=6.0).what == ""
    assert d.free(d.hold(held, held=False, now=6.0).asked).held is False


def test_a_spec_says_all_that_a_worker_needs():
    asked = Asked(
        tenant=TENANT, name="test", task="embedding", source="hf://a/b", instances=1, drain_s=7.0
    )
    spec = asked.spec("i-aaaaaa")
    assert (spec.tenant, spec.name, spec.instance) == (TENANT, "test", "i-aaaaaa")
    assert (spec.task, spec.source, spec.generation, spec.drain_s) == (
        "embedding",
        "hf://a/b",
        1,
        7.0,
    )


@pytest.mark.parametrize(
    ("epoch", "mark", "published", "held"),
    [
        (0, None, 0, False),
        (5, Mark(installation="us", epoch=5), 5, False),
        (6, Mark(installation="us", epoch=5), 0, False),
        (0, Mark(installation="us", epoch=5), 0, True),
        (4, Mark(installation="us", epoch=5), 4, True),
        (4, None, 5, True),
        (9, Mark(installation="them", epoch=5), 0, True),
    ],
)
def test_a_database_that_is_behind_or_foreign_decides_nothing(epoch, mark, published, held):
    assert bool(judge("us", epoch, mark, published)) == held
