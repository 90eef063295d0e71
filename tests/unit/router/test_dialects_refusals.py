"""Keys, envelopes and statuses of the APIs that the router speaks."""

import itertools

import msgspec
import pytest

from caravan.contracts.deployments import TASKS
from services.router.core import dialects
from services.router.core.dialects import CHAT, DIALECTS, MESSAGES, RERANK, RESPONSES
from services.router.core.dialects.base import broken_off
from services.router.core.errors import EngineRefusal, InvalidKeyError
from services.router.core.sse import Usage

OPENAI = [route for route in DIALECTS if route != MESSAGES]


@pytest.mark.parametrize("route", DIALECTS)
@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"Bearer ck-1", "ck-1"),
        (b"bearer   ck-1 ", "ck-1"),
        (b"Basic ck-1", None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Bearer \xff", "\xff"),
        (b"", None),
    ],
)
def test_a_key_is_what_follows_bearer(route, header, key):
    assert DIALECTS[route].key({b"authorization": header}) == key


def test_a_message_takes_its_own_header_first():
    headers = {b"x-api-key": b" ck-own ", b"authorization": b"Bearer ck-other"}

    assert DIALECTS[MESSAGES].key(headers) == "ck-own"
    assert DIALECTS[MESSAGES].key(headers | {b"x-api-key": b" "}) == "ck-other"
    assert {DIALECTS[route].key(headers) for route in OPENAI} == {"ck-other"}
    assert DIALECTS[MESSAGES].key({}) is None


def test_a_message_is_named_by_the_header_that_its_sdks_read():
    assert DIALECTS[MESSAGES].headers("r-1") == [(b"request-id", b"r-1")]
    assert all(DIALECTS[route].headers("r-1") == [] for route in OPENAI)


@pytest.mark.parametrize("route", OPENAI)
def test_openai_gets_its_envelope(route):
    refusal = InvalidKeyError("no", param="p")
    body = msgspec.json.decode(DIALECTS[route].envelope(refusal, "r-1"))

    kind = {"type": "invalid_request_error", "code": "invalid_api_key"}
    assert body == {"error": kind | {"message": "no", "param": "p"}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (408, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_anthropic_gets_its_envelope(status, kind):
    refusal = EngineRefusal("no", status=status, code="x")
    body = msgspec.json.decode(DIALECTS[MESSAGES].envelope(refusal, "r-1"))

    error = {"type": kind, "message": "no"}
    assert body == {"type": "error", "error": error, "request_id": "r-1"}


@pytest.mark.parametrize("route", DIALECTS)
def test_a_broken_stream_ends_in_one_event_that_no_client_takes_for_its_end(route):
    ending = broken_off(DIALECTS[route], "r-1", 7)
    *lines, last, rest = ending.decode().split("\n")
    *names, data = lines
    body = msgspec.json.decode(data.removeprefix("data: "))

    assert (last, rest) == ("", "")
    assert names == ([] if route in OPENAI and route != RESPONSES else ["event: error"])
    assert body["error"]["message"].startswith("The answer broke off")
    assert body["error"]["type"] == ("api_error" if route == MESSAGES else "server_error")


@pytest.mark.parametrize(
    ("route", "status", "message", "meant"),
    [
        (RESPONSES, 400, "503: The request queue is full.", 503),
        (RESPONSES, 400, "max_new_tokens must be at least 0, got -3.", 400),
        (RESPONSES, 404, "The model 'x' does not exist", 404),
        (MESSAGES, 500, "Internal server error", 503),
        (MESSAGES, 400, "Messages cannot be empty.", 400),
        (CHAT, 500, "Internal server error", 500),
        (CHAT, 400, "503: no", 400),
    ],
)
def test_some_statuses_mean_another_one(route, status, message, meant):
    body = msgspec.json.encode({"error": {"type": "api_error", "message": message}})

    assert DIALECTS[route].meant(status, body) == meant


@pytest.mark.parametrize("route", DIALECTS)
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"error": 3, "usage": 3}', b"\xff", b"null"])
def test_a_body_that_cannot_be_read_changes_nothing(route, body):
    assert DIALECTS[route].meant(500, body) == 500
    if route != RERANK or body != b"[]":
        assert DIALECTS[route].usage_in(body) is None
    assert not DIALECTS[route].failed_in(body)


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        ({"status": "failed", "output": []}, True),
        ({"status": "completed"}, False),
        ({"status": "incomplete"}, False),
        ({"status": 500}, False),
        ({"output": [{"status": "failed"}]}, False),
    ],
)
def test_an_answer_of_responses_may_say_that_it_failed(body, failed):
    assert DIALECTS[RESPONSES].failed_in(msgspec.json.encode(body)) is failed
    assert not DIALECTS[CHAT].failed_in(msgspec.json.encode(body))


@pytest.mark.parametrize(
    ("route", "body", "usage"),
    [
        (CHAT, {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}, Usage(3, 2)),
        (RESPONSES, {"usage": {"input_tokens": 28, "output_tokens": 2}}, Usage(28, 2)),
        (
            MESSAGES,
            {"usage": {"input_tokens": 1, "output_tokens": 4, "cache_read_input_tokens": 33}},
            Usage(34, 4),
        ),
        (MESSAGES, {"usage": {}}, None),
        (RERANK, [{"score": 0.1, "index": i, "meta_info": {"prompt_tokens": 4}} for i in (0, 1)],
         Usage(8, 0)),
    ],
)  # fmt: skip
def test_a_plain_answer_tells_its_tokens(route, body, usage):
    assert DIALECTS[route].usage_in(msgspec.json.encode(body)) == usage


def test_every_task_has_its_routes_and_every_route_its_tasks():
    fit = {
        (route, task)
        for route, task in itertools.product(DIALECTS, TASKS)
        if dialects.wrong_route(route, task) is None
    }

    text = (CHAT, dialects.COMPLETIONS, RESPONSES, MESSAGES)
    writers = ("text-generation", "image-understanding")
    assert fit == {
        *itertools.product(text, writers),
        (dialects.EMBEDDINGS, "embedding"),
        (RERANK, "rerank"),
    }


def test_a_wrong_route_is_told_with_the_right_one():
    said = "it generates text: use /v1/chat/completions"
    assert dialects.wrong_route("/v1/embeddings", "text-generation") == said
    assert dialects.wrong_route(CHAT, "embedding") == "it makes embeddings: use /v1/embeddings"
    assert dialects.wrong_route(CHAT, "a task of tomorrow") is None
