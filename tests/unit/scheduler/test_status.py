"""The state of a deployment as a table, and what its truth lines say."""

import pytest
from msgspec.structs import replace

from caravan.contracts.instances import Lease, Progress, Record
from caravan.contracts.reports import InstanceUse
from services.scheduler.core.backoff import Backoff, Tries
from services.scheduler.core.cluster import Observed
from services.scheduler.core.entry import entry, public
from services.scheduler.core.routers import Ejection
from services.scheduler.core.rows import DRAIN, GONE, RUN, Asked, Named
from services.scheduler.core.sight import Sight
from services.scheduler.core.status import status
from services.scheduler.core.truth import Clock, ordinal, progress, truth_line

ASKED = Asked(
    tenant="u-0123456789ab",
    name="test",
    task="text-generation",
    source="file:///m",
    instances=2,
    created_at=1.0,
)
CLOCK = Clock(wall=1000.0, steady=50.0)
READY = Record(incarnation="x", term=1, generation=1, state="ready")
LOADING = replace(READY, state="loading")


def one(*, wanted=RUN, generation=1, state="running", record=READY, failures=0, reason="", **more):
    row = Named(
        spec=replace(ASKED, generation=generation).spec(more.pop("instance", "i-aaaaaa")),
        wanted=wanted,
        deadline=more.pop("deadline", 0.0),
        named_at=900.0,
    )
    observed = Observed(
        ref=row.ref,
        state=state or "",
        failures=failures,
        reason=reason,
        next_try_at=more.pop("next_try_at", 0.0),
    )
    if record is not None:
        record = replace(record, generation=generation)
    return Sight(row=row, observed=observed if state else None, record=record, **more)


ready = one()
waiting = one(state="waiting", record=None, reason="no node has 40 GiB of memory free")
loading = one(record=LOADING)
silent = one(silent=True)
old = one(generation=1)
stopped = replace(ASKED, instances=0)
deleted = replace(stopped, deleted_at=500.0)
updated = replace(ASKED, generation=2)


def test_the_record_of_an_earlier_life_makes_nothing_ready():
    """Its worker was killed and started again: until the new one speaks, nobody knows."""
    sight = one(record=replace(READY, allocation="first"))
    assert sight.usable
    assert not replace(sight, observed=replace(sight.observed, allocation="second")).usable
    assert replace(sight, observed=replace(sight.observed, allocation="first")).usable


@pytest.mark.parametrize(
    ("asked", "sights", "state", "ready_now"),
    [
        (deleted, [], "deleted", 0),
        (deleted, [one(wanted=DRAIN)], "deleting", 0),
        (stopped, [], "stopped", 0),
        (stopped, [one(wanted=GONE)], "stopping", 0),
        (stopped, [ready], "stopping", 1),
        (ASKED, [], "pending", 0),
        (ASKED, [one(state=None, record=None)], "pending", 0),
        (ASKED, [waiting, waiting], "pending", 0),
        (ASKED, [waiting, loading], "starting", 0),
        (ASKED, [one(state="restarting", failures=2)], "starting", 0),
        (ASKED, [one(state="restarting", failures=3)], "failed", 0),
        (ASKED, [one(record=LOADING, failures=3), waiting], "failed", 0),
        (ASKED, [one(state="restarting", failures=9), ready], "degraded", 1),
        (ASKED, [ready], "degraded", 1),
        (ASKED, [ready, loading], "degraded", 1),
        (ASKED, [ready, silent], "degraded", 1),
        (ASKED, [silent, silent], "degraded", 0),
        (ASKED, [ready, ready], "running", 2),
        (ASKED, [ready, ready, one(wanted=DRAIN)], "running", 2),
        (updated, [old, old], "updating", 2),
        (updated, [one(generation=2), one(generation=2), one(wanted=DRAIN)], "updating", 2),
        (updated, [one(generation=2), one(generation=2), one(wanted=GONE)], "running", 2),
        (updated, [one(generation=2), one(generation=2)], "running", 2),
        (updated, [one(generation=1, record=LOADING)], "starting", 0),
        # The cluster's word wins over a record that a killed worker left behind.
        (ASKED, [one(state="restarting"), one(state="ended")], "starting", 0),
        # Another generation's record is not this instance's.
        (ASKED, [replace(ready, record=replace(READY, generation=7))], "starting", 0),
        # Until the cluster is heard after a start, records count alone.
        (ASKED, [one(state=None, cluster_known=False)] * 2, "running", 2),
    ],
)
def test_the_first_state_that_holds(asked, sights, state, ready_now):
    told = status(asked, sights, None)
    assert (told.state, told.ready) == (state, ready_now)


def test_three_refusals_in_a_row_make_it_failed_and_say_why():
    told = status(ASKED, [one(state=None, record=None)], Tries(3, 60.0, "no such driver"))
    assert told.state == "failed"
    assert told.reason == "no such driver"


def test_the_reason_is_that_of_the_one_that_fails_most():
    crashed = one(state="restarting", failures=2, record=replace(READY, state="failed", reason="x"))
    assert status(ASKED, [waiting, crashed], None).reason == "x"
    assert status(ASKED, [waiting], None).reason == "no node has 40 GiB of memory free"
    assert status(ASKED, [ready, ready], None).reason == ""


@pytest.mark.parametrize(
    ("sight", "text"),
    [
        (ready, "ready, 0 in flight"),
        (replace(ready, in_flight=3), "ready, 3 in flight"),
        (
            silent,
            "ready, but silent: its worker has not been heard, used last until its worker is heard",
        ),
        (one(state=None, record=None), "not started: to be started"),
        (
            one(
                state="waiting",
                record=None,
                reason="no node has a GPU free",
                failures=2,
                next_try_at=1040.0,
            ),
            "waiting: no node has a GPU free, 3rd try in 40 s",
        ),
        (waiting, "waiting: no node has 40 GiB of memory free, placed as soon as there is room"),
        (
            one(
                state="restarting",
                failures=1,
                next_try_at=1005.0,
                record=replace(READY, state="failed", reason="the engine ran out of memory"),
            ),
            "restarting: the engine ran out of memory, 2nd try in 5 s",
        ),
        (
            one(
                record=LOADING,
                lease=Lease(incarnation="x", progress=Progress(done_bytes=12, total_bytes=100)),
            ),
            "loading: ready when its weights are loaded (0 of 0 MB, 12 %)",
        ),
        (loading, "loading: ready when its engine answers"),
        (one(record=None), "starting: ready when its worker says so"),
        (
            one(wanted=DRAIN, deadline=1090.0, in_flight=2),
            "draining, 2 in flight: stopped when idle, in 90 s at the latest",
        ),
        (one(wanted=GONE), "stopping: ends"),
        (
            one(state=None, record=None, tries=Tries(2, 62.0, "the driver is missing")),
            "not started: the driver is missing, 3rd try in 12 s",
        ),
    ],
)
def test_a_truth_line_says_what_is_and_what_comes(sight, text):
    assert truth_line(sight, CLOCK).text == text


def test_a_truth_line_tells_who_says_what():
    use = InstanceUse(last_answer_at=900.0, last_error_at=990.0, last_error="reset")
    line = truth_line(
        one(lease=Lease(incarnation="x"), lease_age_s=2.0, outcome=use, in_flight=1), CLOCK
    )
    assert (line.cluster, line.worker, line.routers) == ("running", "ready", "failed")
    assert (line.verdict, line.ready, line.age_s, line.in_flight) == ("serve", True, 2.0, 1)


EJECTED = "ejected by 1 of 2 routers, last error: no connection in time, 4 s ago"
UNHEARD = "its worker has not been heard"
ejected = one(
    in_flight=2,
    ejection=Ejection(by=1, of=2, last_error="no connection in time", last_error_at=996.0),
    outcome=InstanceUse(last_answer_at=999.0),
)


@pytest.mark.parametrize(
    ("sight", "text"),
    [
        (
            ejected,
            f"ready, 2 in flight: {EJECTED}, probed until it answers",
        ),
        (
            replace(ejected, ejection=Ejection(by=1, of=1)),
            "ready, 2 in flight: ejected by 1 of 1 router, probed until it answers",
        ),
        (
            replace(ejected, silent=True),
            f"ready, but silent: {UNHEARD}, {EJECTED}, used last until its worker is heard",
        ),
        # It does not serve in any case: what routers think of an earlier life explains nothing.
        (replace(ejected, record=LOADING), "loading: ready when its engine answers"),
        (
            replace(ejected, row=replace(ejected.row, wanted=DRAIN, deadline=1090.0)),
            "draining, 2 in flight: stopped when idle, in 90 s at the latest",
        ),
    ],
)
def test_a_truth_line_says_which_routers_use_it_last_and_why(sight, text):
    assert truth_line(sight, CLOCK).text == text


def test_one_router_that_ejects_is_told_over_another_that_had_an_answer():
    line = truth_line(ejected, CLOCK)
    assert (line.routers, line.ready, line.verdict) == ("ejected", True, "serve")
    assert line.reason.startswith("ejected by 1 of 2 routers")
    assert status(ASKED, [ejected, ready], None).state == "running"


def test_a_cluster_that_does_not_answer_is_unknown():
    assert truth_line(ready, CLOCK, heard=False).cluster == "unknown"


def test_numbers_are_read_as_people_say_them():
    said = [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
    assert said == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]
    assert progress(Progress(done_bytes=120_000_000)) == "120 MB"
    whole = Progress(done_bytes=120_000_000, total_bytes=980_000_000)
    assert progress(whole) == "120 of 980 MB, 12 %"


def test_the_bucket_names_every_instance_and_the_generations_that_may_serve():
    sights = [
        one(instance="i-aaaaaa", generation=1),
        one(instance="i-bbbbbb", generation=2, silent=True),
        one(instance="i-cccccc", generation=1, wanted=DRAIN, deadline=1120.0),
        one(instance="i-dddddd", generation=1, wanted=GONE, deadline=1110.0),
    ]
    told = entry(updated, sights, status(updated, sights, None))
    assert told is not None
    assert told.generations == [1, 2]
    assert {name: (v.word, v.deadline) for name, v in told.verdicts.items()} == {
        "i-aaaaaa": ("serve", 0.0),
        "i-bbbbbb": ("suspect", 0.0),
        "i-cccccc": ("drain", 1120.0),
        "i-dddddd": ("drain", 1110.0),
    }


def test_an_old_generation_that_only_drains_may_not_serve():
    sights = [one(generation=2), one(wanted=DRAIN)]
    told = entry(updated, sights, status(updated, sights, None))
    assert told is not None
    assert told.generations == [2]


def test_what_is_deleted_and_over_has_no_entry():
    assert entry(deleted, [], status(deleted, [], None)) is None
    assert entry(deleted, [one(wanted=DRAIN)], status(deleted, [one(wanted=DRAIN)], None))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("/models/llama holds no config.json", "… holds no config.json"),
        ("file:///models/llama is gone", "… is gone"),
        ("cannot bind 10.0.3.7:30000", "cannot bind …"),
        ("hf://owner/name was not found", "hf://owner/name was not found"),
        ("no node has 40 GiB of memory free", "no node has 40 GiB of memory free"),
    ],
)
def test_clients_read_no_paths_and_addresses(reason, told):
    assert public(reason) == told


def test_tries_double_from_5_s_to_5_minutes_and_end_with_a_success():
    backoff = Backoff()
    waits = [backoff.failed("a", "no", 100.0).next_at - 100.0 for _ in range(8)]
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    assert not backoff.due("a", 399.0)
    assert backoff.due("a", 400.0)
    assert backoff.due("b", 0.0)
    assert backoff.next_due(100.0) == 400.0
    backoff.worked("a")
    assert backoff.of("a") is None
    assert backoff.next_due(100.0) == float("inf")
