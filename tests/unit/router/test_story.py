import gc

from services.router.core.errors import EngineRefusal, StoppedError
from services.router.core.sse import Usage
from services.router.core.story import COMPLETE, Story, why


def begun(**more):
    return Story(request_id="r1", method="POST", path="/v1/x", client="::1", began=10.0, **more)


def test_the_line_tells_what_is_known_and_leaves_out_what_is_not():
    story = begun(status=200, outcome=COMPLETE, answered=10.25, instance="i-a", retried=["broken"])
    story.usage = Usage(prompt_tokens=3, completion_tokens=0)

    assert story.line(12.0) == {
        "request_id": "r1",
        "method": "POST",
        "path": "/v1/x",
        "client": "::1",
        "status": 200,
        "outcome": "complete",
        "ms": 2000.0,
        "first_byte_ms": 250.0,
        "instance": "i-a",
        "retried": ["broken"],
        "prompt_tokens": 3,
        "completion_tokens": 0,
    }


def test_a_request_without_an_answer_has_no_first_byte_and_one_without_usage_no_tokens():
    told = begun(status=503, outcome="refused").line(11.0)

    assert not {"first_byte_ms", "prompt_tokens", "completion_tokens", "retried"} & told.keys()


def test_the_trace_is_told_where_there_is_one():
    assert begun(trace="00-aa-bb-01").line(11.0)["trace"] == "00-aa-bb-01"


def test_stories_share_no_list_and_cost_the_garbage_collector_nothing():
    one, other = begun(), begun()
    one.retried = [*one.retried, "refused"]

    assert list(other.retried) == []
    assert not gc.is_tracked(one)


def test_why_is_our_own_sentence_never_an_engines():
    assert why(StoppedError("It is stopped.")) == "It is stopped."
    quoting = EngineRefusal("input_value='my secret'", status=400, code="invalid_request")
    assert why(quoting) == "the engine answered 400"
