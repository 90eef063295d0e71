"""The log's line of a request: which ones are written, and what stands in them."""

import json
import logging

import pytest
import structlog
from prometheus_client import generate_latest

from caravan.contracts.keys import mint
from caravan.kit import log as logs
from services.router.api.metrics import Metrics
from services.router.api.telling import LATER_S, MANY, QUIET, Telling
from services.router.core.inflight import InFlight
from services.router.core.loudness import Loudness
from services.router.core.story import Story

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def _json_lines():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logs.configure("router", form="json")
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def telling(lines=0.0):
    loudness = Loudness(lines)
    return Telling(Metrics(InFlight(), dict, loudness=loudness), loudness)


def story(**more):
    known = {"request_id": "r", "method": "POST", "path": CHAT, "client": "::1", "began": 1.0}
    return Story(**(known | {"route": CHAT, "status": 200, "outcome": "complete"} | more))


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    "end",
    [
        {"status": 400, "outcome": "refused"},
        {"status": 502, "outcome": "refused"},
        {"status": 200, "outcome": "truncated"},
        {"status": 200, "outcome": "cancelled"},
        {"status": 499, "outcome": "cancelled"},
        {"status": 200, "outcome": "failed"},
    ],
)
def test_what_did_not_go_well_is_always_written(capsys, end):
    own = telling(lines=0.0)
    for _ in range(3):
        own.ended(story(**end), 2.0)

    assert [line["outcome"] for line in lines(capsys)] == [end["outcome"]] * 3


def test_what_went_well_is_written_as_far_as_the_bound_goes(capsys):
    own = telling(lines=5.0)
    for _ in range(50):
        own.ended(story(), 2.0)

    assert len(lines(capsys)) == 5


def test_the_next_line_says_how_many_were_left_out_before_it(capsys):
    own = telling(lines=1.0)
    for now in (2.0, 2.0, 2.0, 9.0, 20.0):
        own.ended(story(), now)
    own.ended(story(), 20.0)
    own.ended(story(status=404, outcome="refused"), 20.0)

    assert [line.get("unlogged") for line in lines(capsys)] == [None, 2, None, 1]


@pytest.mark.parametrize("route", sorted(QUIET))
def test_machines_questions_are_told_at_debug_only_and_use_up_no_line(capsys, route):
    own = telling(lines=1.0)
    own.ended(story(route=route, status=503, outcome="refused"), 2.0)
    own.ended(story(route=route), 2.0)
    own.ended(story(), 2.0)
    assert [line["path"] for line in lines(capsys)] == [CHAT]

    logs.configure("router", form="json", level="debug")
    telling().ended(story(route=route, path=route), 2.0)
    (line,) = lines(capsys)
    assert (line["path"], line["level"]) == (route, "debug")


def test_every_request_is_counted_written_or_not(capsys):
    loudness = Loudness(0.0)
    metrics = Metrics(InFlight(), dict, loudness=loudness)
    own = Telling(metrics, loudness)
    own.ended(story(), 2.0)
    own.ended(story(status=404, outcome="refused"), 2.0)

    text = generate_latest(metrics.registry).decode()
    assert f'requests_total{{outcome="complete",route="{CHAT}",status="200"}} 1.0' in text
    assert f'requests_total{{outcome="refused",route="{CHAT}",status="404"}} 1.0' in text
    assert "left_out_total 1.0" in text
    assert len(lines(capsys)) == 1


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"status": 0, "outcome": ""}, (499, "cancelled")),
        ({"status": 0, "outcome": "failed"}, (499, "failed")),
        ({"status": 404, "outcome": ""}, (404, "refused")),
    ],
)
def test_an_end_that_nobody_noted_is_told_as_what_it_was(capsys, known, told):
    telling().ended(story(**known), 2.0)

    (line,) = lines(capsys)
    assert (line["status"], line["outcome"]) == told


def test_the_line_is_the_one_that_the_log_itself_writes(capsys):
    end = story(why="at nats://me:s3cret@host:4222", path=f"/{mint(7)}", retried=["broken"])
    telling(lines=1.0).ended(end, 2.0)
    structlog.get_logger().info("request", **end.line(2.0))

    short, long = capsys.readouterr().err.splitlines()
    assert "s3cret" not in short
    assert "ck-" not in short
    short, long = json.loads(short), json.loads(long)
    assert short.pop("timestamp")[:11] == long.pop("timestamp")[:11]
    assert short == long


def test_for_eyes_it_is_a_line_for_eyes(capsys):
    logs.configure("router", form="console")
    telling(lines=1.0).ended(story(), 2.0)

    (line,) = capsys.readouterr().err.splitlines()
    assert "request" in line
    assert CHAT in line
    assert not line.startswith("{")


def test_below_the_level_no_line_is_written(capsys):
    logs.configure("router", form="json", level="warning")
    telling(lines=1.0).ended(story(status=500, outcome="failed"), 2.0)

    assert lines(capsys) == []


def test_untraced_the_clients_traceparent_travels_on():
    own = telling()

    assert not own.tracing
    assert own.traceparent(b"as it came") == b"as it came"


class Turns(list):
    """Stands for the loop: what is to be called, and in how many seconds."""

    def after(self, seconds, call):
        self.append((seconds, call))

    def pass_by(self):
        calls, self[:] = list(self), []
        for _, call in calls:
            call()


def waiting(turns, lines=10.0):
    loudness = Loudness(lines)
    metrics = Metrics(InFlight(), dict, loudness=loudness)
    return Telling(metrics, loudness, after=turns.after), metrics


def told(capsys):
    return [line["request_id"] for line in lines(capsys)]


def test_what_went_well_is_told_a_little_later_together_and_once(capsys):
    turns = Turns()
    own, _ = waiting(turns)

    own.ended(story(request_id="a"), 2.0)
    own.ended(story(request_id="b"), 2.0)
    assert [seconds for seconds, _ in turns] == [LATER_S]
    assert lines(capsys) == []

    turns.pass_by()
    own.ended(story(request_id="c"), 3.0)
    turns.pass_by()
    turns.pass_by()

    told = lines(capsys)
    assert [line["request_id"] for line in told] == ["a", "b", "c"]
    assert [line["ms"] for line in told] == [1000.0, 1000.0, 2000.0]


def test_what_went_badly_is_told_in_the_next_turn_in_its_order(capsys):
    turns = Turns()
    own, _ = waiting(turns)

    own.ended(story(request_id="good"), 2.0)
    own.ended(story(request_id="bad", status=502, outcome="refused"), 2.0)
    own.ended(story(request_id="too", status=502, outcome="refused"), 2.0)
    assert [seconds for seconds, _ in turns] == [LATER_S, 0.0]

    turns.pop()[1]()
    assert told(capsys) == ["good", "bad", "too"]
    own.ended(story(request_id="worse", status=502, outcome="refused"), 2.0)
    assert [seconds for seconds, _ in turns] == [LATER_S, 0.0]


def test_what_ends_in_great_numbers_is_told_in_the_next_turn():
    turns = Turns()
    own, _ = waiting(turns)

    for _ in range(MANY - 1):
        own.ended(story(), 2.0)
    assert [seconds for seconds, _ in turns] == [LATER_S]
    own.ended(story(), 2.0)
    assert [seconds for seconds, _ in turns] == [LATER_S, 0.0]


def test_who_reads_the_metrics_reads_of_all_that_has_ended():
    own, metrics = waiting(Turns())
    own.ended(story(), 2.0)
    own.ended(story(), 2.0)

    text = generate_latest(metrics.registry).decode()
    assert f'requests_total{{outcome="complete",route="{CHAT}",status="200"}} 2.0' in text
