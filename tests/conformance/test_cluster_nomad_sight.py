"""What Nomad's answers mean, in words for people. Values alone; the answers are of 2.0.5."""

import time

import msgspec
import pytest

from services.scheduler.adapters import nomad_jobs, nomad_sight, nomad_words
from services.scheduler.adapters.nomad_answers import Alloc, Evaluation, Metric
from services.scheduler.adapters.nomad_sight import Seen

TENANT = "u-8105f7322477"
JOB = f"caravan-{TENANT}-test"
NOW = time.time()


def metric(**fields):
    return msgspec.convert(fields, Metric)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ConstraintFiltered": {"missing devices": 2}}, "no node has such a GPU"),
        ({"DimensionExhausted": {"devices: no devices match": 1}}, "enough GPUs free"),
        (
            {
                "DimensionExhausted": {"memory": 1},
                "ResourcesExhausted": {"i-aaaaaa-g1": {"MemoryMB": 40960, "Devices": None}},
            },
            "no node has 40960 MiB of memory free",
        ),
        ({"DimensionExhausted": {"cpu": 1}}, "no node has enough MHz of CPU free"),
        ({"DimensionExhausted": {"disk": 1}}, "MiB of disk free"),
        (
            {"DimensionExhausted": {"network: dynamic port selection failed": 1}},
            "no node has a port free",
        ),
        ({"ConstraintFiltered": {"${meta.rack} = r9": 3}}, "constraint ${meta.rack} = r9"),
        ({"ConstraintFiltered": {"distinct_hosts": 1}}, "each node has one already"),
        ({"ConstraintFiltered": {"missing drivers": 1}}, "no node has the task driver"),
        ({"ConstraintFiltered": {"missing compatible host volumes": 1}}, "has the volume"),
        ({}, "no node stands ready in the node pool"),
        ({"NodesAvailable": {"dc1": 0}}, "no node stands ready"),
        ({"NodesAvailable": {"dc1": 3}}, "no node can take it"),
    ],
)
def test_why_a_group_fits_nowhere_is_said_in_words(fields, words):
    assert words in nomad_words.waiting(metric(**fields))


def event(type_, message="", **details):
    return {"Type": type_, "DisplayMessage": message, "Details": details}


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([event("Terminated", exit_code="3", signal="0")], "ended with exit status 3"),
        ([event("Terminated", exit_code="137", signal="9")], "for want of memory or by somebody"),
        (
            [event("Terminated", exit_code="137", signal="9", oom_killed="true")],
            "killed for want of memory",
        ),
        (
            [event("Killing"), event("Terminated", exit_code="137", signal="9")],
            "killed by signal 9",
        ),
        ([event("Driver Failure", "Failed to pull x")], "could not start it: Failed to pull x"),
        ([event("Started"), event("Failed Validation", "no command")], "no command"),
        ([], "it ended"),
    ],
)
def test_how_one_failed_is_said_in_words(events, words):
    assert words in nomad_words.failure(alloc("failed", events=events))


def test_durations_are_read_as_go_writes_them():
    assert [nomad_words.seconds(text) for text in ("30s", "2m30s", "1h0m5s", "1.5s", "150ms")] == [
        30,
        150,
        3605,
        1.5,
        0.15,
    ]


def alloc(status, *, desired="run", number=1, events=(), started=None, **more):
    state = {"State": "x", "StartedAt": started, "Events": list(events)}
    fields = {
        "ID": f"alloc-{number}",
        "JobID": JOB,
        "TaskGroup": "i-aaaaaa",
        "ClientStatus": status,
        "DesiredStatus": desired,
        "NodeName": "node-1",
        "CreateIndex": number,
        "TaskStates": {"i-aaaaaa-g1": state},
        **more,
    }
    return msgspec.convert(fields, Alloc)


def at(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def tracker(*events):
    """Each event: when the successor was made, and after what pause, in seconds."""
    return {
        "Events": [
            {"RescheduleTime": int(made * 1e9), "Delay": int(delay * 1e9), "PrevAllocID": "alloc-1"}
            for made, delay in events
        ]
    }


def look(*allocs, evaluations=(), count=1):
    job = {"ID": JOB, "TaskGroups": [{"Name": "i-aaaaaa", "Count": count}]}
    seen = Seen(tenant=TENANT, name="test", job=job, allocs=allocs, evaluations=evaluations)
    [observed] = nomad_sight.instances(seen, NOW)
    return observed


def evaluation(**fields):
    return msgspec.convert({"ID": "e1", "JobID": JOB, "Status": "pending", **fields}, Evaluation)


def test_one_that_failed_is_tried_again_when_its_evaluation_says():
    over = alloc(
        "failed",
        FollowupEvalID="e1",
        RescheduleTracker=tracker((NOW - 30, 5), (NOW - 15, 10)),
        events=[event("Terminated", exit_code="1", signal="0")],
    )
    seen = look(over, evaluations=[evaluation(WaitUntil=at(NOW + 20))])
    assert (seen.state, seen.failures) == ("restarting", 3)
    assert abs(seen.next_try_at - (NOW + 20)) < 1
    assert seen.reason == "its worker ended with exit status 1"


def test_failures_before_a_long_life_no_longer_count():
    over = alloc("failed", RescheduleTracker=tracker((NOW - 2000, 5), (NOW - 100, 5)))
    assert look(over).failures == 2
    running = alloc("running", started=at(NOW - 400), RescheduleTracker=tracker((NOW - 401, 5)))
    assert (look(running).failures, look(running).reason) == (0, "")


def test_one_that_runs_again_says_what_it_died_of():
    died = alloc("failed", desired="stop", events=[event("Terminated", exit_code="9", signal="0")])
    again = alloc("running", number=2, started=at(NOW - 5), RescheduleTracker=tracker((NOW - 6, 5)))
    seen = look(died, again)
    assert (seen.state, seen.failures, seen.reason) == (
        "running",
        1,
        "its worker ended with exit status 9",
    )
    assert seen.allocation == "alloc-2"


def test_one_that_failed_and_finds_no_room_says_both():
    blocked = evaluation(
        Status="blocked", FailedTGAllocs={"i-aaaaaa": {"DimensionExhausted": {"memory": 1}}}
    )
    seen = look(alloc("failed"), evaluations=[blocked])
    assert seen.state == "waiting"
    assert seen.reason.startswith("it ended, and now no node has enough MiB of memory")


@pytest.mark.parametrize("status", ["complete", "lost"])
def test_one_whose_node_was_drained_or_lost_waits_for_its_successor(status):
    seen = look(alloc(status, desired="stop"))
    assert (seen.state, seen.reason) == ("waiting", "Nomad has not looked for a node yet")


def test_one_whose_node_is_not_heard_runs_as_far_as_anybody_knows():
    assert look(alloc("unknown")).reason == "its node node-1 is not heard"
    assert look(alloc("unknown")).state == "running"


def test_one_that_was_placed_and_has_not_begun_says_where():
    assert "placed on node-1" in look(alloc("pending")).reason


def test_a_job_id_is_read_back_and_others_are_none():
    assert nomad_jobs.owner(nomad_jobs.job_id(TENANT, "a-b")) == (TENANT, "a-b")
    for other in ("caravan-auth", "caravan-u-81-test", f"caravan-{TENANT}", "web"):
        assert nomad_jobs.owner(other) is None
