"""Any answer of an engine in any pieces: the client sees it, or that it is none; nothing else."""

import re

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from tests.integration.router import fuzz_answers as fuzz
from tests.integration.router.live import Live, bounded
from tests.integration.router.scripts import PLAIN, RESET, Script, polite
from tests.integration.router.wire import Client
from tests.integration.router.world import CHAT, MODEL, SECRET

FAILED = re.compile(
    rb'data: \{"error":\{"message":"[^"]+","type":"server_error","param":null,'
    rb'"code":"engine_failed"\}\}\n\n'
)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with Live(tmp_path_factory.mktemp("live")) as live:
        yield live


def request(name, wish=""):
    """Return the bytes of a good request that the engine knows by ``name``."""
    body = f'{{"model":"{MODEL}"{wish}}}'
    return (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        f"X-Request-Id: {name}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


WISHES = {
    "": False,
    ',"stream":true': False,
    ',"stream":true,"stream_options":{"include_usage":false}': False,
    ',"stream":true,"stream_options":{"include_usage":true}': True,
}
"""What a request may say of its answer, and whether it asks for the usage."""


async def asked(live, script, wish):
    """Return what a client gets when the engine answers by ``script``; the next request is good."""
    live.engine.got.clear()
    live.engine.script = lambda got: script if got.id == "fuzz" else polite(got)
    async with Client(live.port) as client:
        await client.send([request("fuzz", wish)])
        answer = await client.answer()
        assert answer is not None, "no answer at all"
        if answer.whole and answer.stays:
            await good(client)
        else:
            assert await client.rest() == b""
    async with Client(live.port) as client:
        await good(client)
    assert 1 <= sum(got.id == "fuzz" for got in live.engine.got) <= 2
    assert live.engine.wrong == []
    await live.settled()
    return answer


async def good(client):
    await client.send([request("good")])
    answer = await client.answer()
    assert answer is not None
    assert (answer.status, answer.body, answer.headers["x-request-id"]) == (200, PLAIN, "good")


def dressed(answer):
    """Check what every answer carries."""
    assert answer.headers["x-request-id"] == "fuzz"
    assert not {"set-cookie", "server", "x-a", "x-long"} & set(answer.headers)
    event(f"{answer.status} {'whole' if answer.whole else 'cut'}")
    for secret in fuzz.SECRETS:
        assert secret not in answer.body


def refused(answer, *statuses):
    assert answer.status in statuses
    assert answer.whole
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) == {"error"}
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    if answer.status == 503:
        assert 0 <= int(answer.headers["retry-after"]) <= 60
        assert 0 < int(answer.headers["retry-after-ms"]) <= 60_000


def passed(told, answer):
    """Check a plain answer: all of it, or visibly not all of it."""
    if told.whole:
        assert (answer.status, answer.whole) == (200, True)
        assert answer.body == told.payload
        assert answer.headers["content-type"] == (told.content_type or "application/json")
    elif answer.status == 200:
        assert not answer.whole
        assert told.payload.startswith(answer.body)
    else:
        refused(answer, 502)


def streamed(told, answer, *, show_usage):
    """Check an event stream against the model; a break may have swallowed the last events."""
    events, rest = fuzz.split(told.payload)
    lost = len(events) if told.end == RESET else 0
    problems = []
    for count in range(len(events), len(events) - lost - 1, -1):
        left = rest if count == len(events) else b"".join(events[count:]) + rest
        seen = fuzz.seen_of(events[:count], left, show_usage=show_usage)
        try:
            as_modelled(seen, answer, show_usage=show_usage)
        except AssertionError as exc:
            problems.append(exc)
        else:
            return
    raise problems[0]


def as_modelled(seen, answer, *, show_usage):
    if not seen.begun:
        refused(answer, 503 if seen.refused in fuzz.FULL else seen.refused or 502)
        return
    if answer.status == 502 and b"data:" not in seen.out and not seen.complete:
        refused(answer, 502)  # nothing of the model's has passed yet: not even a status
        return
    event("complete" if seen.complete else "failed")
    assert (answer.status, answer.whole, answer.framing) == (200, True, "chunked")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    if seen.complete:
        assert answer.body == seen.out
        return
    end = list(FAILED.finditer(answer.body))
    assert end
    assert end[-1].end() == len(answer.body)
    assert not re.search(rb"(?:^|\n)data: ?\[DONE\]", answer.body)
    body = answer.body[: end[-1].start()]
    assert body.startswith(seen.out)
    part = body[len(seen.out) :]
    if part:  # of an event that has no end: its frame is finished, so that another may follow
        frame = re.search(rb"(\r?\n){1,2}$", part)
        assert frame is not None
        assert seen.rest.startswith(part[: frame.start()])
        assert show_usage or b'"choices": []' not in part
        assert b'{"error"' not in part.replace(b'\\"', b"")


def judged(told, answer, *, show_usage):
    """Check ``answer`` against what the engine has told."""
    dressed(answer)
    if not told.headed or (told.surplus and answer.status == 502):
        refused(answer, 502)
    elif told.surplus and told.is_stream and FAILED.search(answer.body):
        return  # who writes behind the end of its answer has failed
    elif told.status >= 400:
        right = 503 if told.status in fuzz.FULL else told.status
        refused(answer, *([right] if told.whole else [right, 502]))
    elif told.status != 200:
        refused(answer, 502)
    elif told.is_stream:
        streamed(told, answer, show_usage=show_usage)
    else:
        passed(told, answer)


wishes = st.sampled_from(list(WISHES))


@given(fuzz.stream_answers, wishes)
@example(fuzz.HALF_OF_A_LONG_EVENT, "")
@bounded(250)
def test_a_stream_passes_as_it_is_or_ends_as_a_failure(live, told, wish):
    answer = live.run(asked(live, told.script, wish))
    judged(told, answer, show_usage=WISHES[wish])


@given(
    st.one_of(fuzz.plain_answers, fuzz.plain_answers, fuzz.error_answers, fuzz.odd_answers), wishes
)
@bounded(250)
def test_a_plain_answer_passes_whole_and_an_error_in_its_envelope(live, told, wish):
    answer = live.run(asked(live, told.script, wish))
    judged(told, answer, show_usage=WISHES[wish])


@given(fuzz.nonsense, wishes)
@example(Script([], RESET), "")
@bounded(120)
def test_what_is_no_answer_is_502_or_visibly_not_whole(live, script, wish):
    answer = live.run(asked(live, script, wish))
    dressed(answer)
    if answer.status != 200:
        refused(answer, 502, 503)
