"""Strategies for what engines answer, and a slow model of what a client may see of it."""

import itertools
import json
import re

from hypothesis import strategies as st
from msgspec import Struct

from services.router.core.sse import LONG_EVENT
from tests.integration.router.engine import USAGE
from tests.integration.router.scripts import CLOSE, KEEP, RESET, Script
from tests.integration.router.wire import cut

SECRETS = (b"/opt/models", b"10.1.2.3")
WHERE = "cannot open /opt/models/x/config.json at http://10.1.2.3:30000/v1"
FULL = {429, 502, 503, 504}
seldom = st.sampled_from([False] * 9 + [True])


class Told(Struct, frozen=True):
    """An engine's answer: its bytes, what of its payload they carry, and how it ends."""

    status: int
    content_type: str | None
    payload: bytes
    """What of the body is within ``wire``."""
    wire: bytes
    cuts: tuple[list[int], int]
    end: str
    surplus: bool
    """Whether more follows than the answer."""
    headed: bool
    """Whether the head is within ``wire``."""
    whole: bool
    """Whether nothing is missing, as far as anyone can tell."""

    def __repr__(self):
        return f"<{self.wire[:3000]!r} … {len(self.wire)} bytes, in {self.cuts}, {self.end}>"

    @property
    def script(self):
        return Script(cut(self.wire, *self.cuts), self.end)

    @property
    def is_stream(self):
        return (self.content_type or "").lower().startswith("text/event-stream")


# Events.

ADVERSE = [
    '"finish_reason":"stop"',
    '"finish_reason": "stop"',
    "data: [DONE]",
    "\ndata: [DONE]\n\n",
    '"usage":{"choices":[]}',
    '{"error":{"message":"x"}}',
    'data: {"error": "x"}',
    "\\",
    '\\"finish_reason\\":\\"stop\\"',
    "\u2028\u0085",
    "ü" * 50,
    "😀",
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(ADVERSE)
forms = st.sampled_from([{}, {"separators": (",", ":")}, {"ensure_ascii": False}])
reasons = st.sampled_from(["stop", "length", "tool_calls"])


def chunk(text, finish, *, chat=True, **more):
    content = {"delta": {"content": text}} if chat else {"text": text}
    return {"id": "c-1", "choices": [{"index": 0, **content, "finish_reason": finish}], **more}


PROBABLE = [{"token": f"t{n}", "logprob": -0.5, "bytes": [1, 2, 3]} for n in range(60)]


def probable(text, finish, count):
    """A chunk with what was probable instead, which stands before its finish reason."""
    choice = {"index": 0, "delta": {"content": text}, "logprobs": {"content": PROBABLE[:count]}}
    return {"id": "c-1", "choices": [choice | {"finish_reason": finish}]}


tokens = st.one_of(
    st.builds(chunk, texts, st.none(), chat=st.booleans()),
    st.builds(lambda text: chunk(text, None, usage=USAGE, error=None), texts),
    st.builds(probable, texts, st.none(), st.integers(0, 60)),
)
finishes = st.one_of(
    st.builds(chunk, texts, reasons, chat=st.booleans()),
    st.builds(probable, texts, reasons, st.integers(0, 60)),
    st.builds(lambda text: chunk(text, "stop", details=PROBABLE[:30]), texts),
)
usages = st.sampled_from(
    [
        {"id": "c-1", "choices": [], "usage": USAGE},
        {"usage": USAGE, "choices": []},
        {"id": "c-1", "choices": [], "usage": USAGE | {"prompt_tokens_details": None}},
    ]
)
errors = st.sampled_from(
    [
        {"error": {"message": WHERE, "code": 400}},
        {"error": {"message": WHERE, "code": "500", "type": "x"}},
        {"error": {"object": "error", "message": WHERE, "code": 503}},
        {"error": WHERE},
        {"object": "error", "message": WHERE, "type": "BadRequest", "code": 422},
    ]
)


@st.composite
def events(draw, values, form):
    """An event with one of ``values`` as data, as an engine writes it that writes ``form``."""
    raw = json.dumps(draw(values), **form)
    eol = draw(st.sampled_from(["\n"] * 5 + ["\r\n"]))
    return f"data:{draw(st.sampled_from([' '] * 5 + ['']))}{raw}{eol}{eol}".encode()


@st.composite
def asides(draw, form):
    """What is no token: comments, names, several lines of data, long lines, empty lines."""
    eol = draw(st.sampled_from(["\n", "\r\n"]))
    kind = draw(st.integers(0, 14))
    text = draw(texts).replace("\n", " ").replace("\r", " ")
    if kind == 7:
        return f"data: {json.dumps(chunk(text, None), **form)}\n\n\r\n".encode()
    lines = {
        0: [f": {text.replace(chr(34), '')}"],
        1: [":"],
        2: ["event: x", "id: 7", 'data: {"a":1}'],
        3: ['data: {"a":', "data: 1}"],
        4: ["retry: 10"],
        5: [": x", 'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}'],
        6: [f'data: {{"long":"{"x" * draw(st.sampled_from([65_500, 65_536, 66_000, 200_000]))}"}}'],
    }.get(kind, [f"data: {json.dumps(chunk(text, None), **form)}"])
    return (eol.join(lines) + eol + eol).encode()


DONE = st.sampled_from([b"data: [DONE]\n\n"] * 4 + [b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n"])


def ends(form):
    """Return how a stream ends, well or not."""
    token, finish = events(tokens, form), events(finishes, form)
    usage, error = events(usages, form), events(errors, form)
    return st.one_of(
        st.tuples(finish, usage, DONE),
        st.tuples(finish, usage, DONE),
        st.tuples(finish, DONE),
        st.tuples(finish, token, DONE),
        st.tuples(finish, usage),
        st.tuples(finish),
        st.tuples(DONE),
        st.tuples(),
        st.tuples(error),
        st.tuples(error, DONE),
        st.tuples(finish, error, DONE),
        st.tuples(usage, DONE),
    )


@st.composite
def streams(draw):
    """Return the payload of an event stream."""
    form = draw(forms)
    token = events(tokens, form)
    body = draw(st.lists(st.one_of(token, token, asides(form)), max_size=8))
    return b"".join([*body, *draw(ends(form))])


# The wire.

surpluses = st.sampled_from(
    [b""] * 4 + [b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled", b"x", b"\r\n"]
)
"""What an engine may write behind its answer."""


@st.composite
def any_case(draw, name):
    return "".join(c.upper() if draw(st.booleans()) else c for c in name)


interims = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n",
        ]
    ),
    max_size=2,
)
more_headers = st.lists(
    st.sampled_from(
        [
            "Server: uvicorn",
            "X-A: ",
            "x-a: b",
            "X-Request-Id: engine",
            "Date: now",
            "Set-Cookie: a=b",
            "Set-Cookie: c=d",
            "Retry-After: 7",
            "Retry-After: soon",
            "Connection: keep-alive",
            "Keep-Alive: timeout=5",
            "X-Long: " + "a" * 3000,
            "Content-Encoding: identity",
        ]
    ),
    max_size=4,
    unique_by=lambda line: line.partition(":")[0].lower() + line[:3],
)


@st.composite
def framed(draw, payload):
    """Return header lines and wire parts of a body: ``(bytes, whether they are payload)``."""
    kind = draw(st.sampled_from(["chunked", "chunked", "length", "close"]))
    if kind == "length":
        return kind, [f"{draw(any_case('content-length'))}: {len(payload)}"], [(payload, True)]
    if kind == "close":
        return kind, ["Connection: close"], [(payload, True)]
    if draw(st.booleans()):
        return kind, ["Transfer-Encoding: chunked"], draw(aligned(payload))
    parts = []
    for piece in cut(payload, *draw(cuts)) if payload else []:
        size = draw(st.sampled_from(["{:x}", "{:X}", "{:05x}"])).format(len(piece))
        extension = draw(st.sampled_from(["", "", "", ";a=b", ';a="b c"']))
        parts += [(f"{size}{extension}\r\n".encode(), False), (piece, True), (b"\r\n", False)]
    trailer = draw(st.sampled_from(["", "", "X-Sum: 1\r\n"]))
    parts.append((f"0\r\n{trailer}\r\n".encode(), False))
    return kind, [f"{draw(any_case('transfer-encoding'))}: chunked"], parts


@st.composite
def aligned(draw, payload):
    """Return chunks of one or a few whole events each, as engines write them."""
    found, rest = split(payload)
    parts, chunk_now = [], b""
    for event in [*found, rest] if rest else found:
        chunk_now += event
        if draw(st.sampled_from([True, True, True, False])):
            parts += _chunk(chunk_now)
            chunk_now = b""
    parts += _chunk(chunk_now) if chunk_now else []
    return [*parts, (b"0\r\n\r\n", False)]


def _chunk(data):
    return [(b"%x\r\n" % len(data), False), (data, True), (b"\r\n", False)]


@st.composite
def told(draw, status, content_type, payload):
    """Return an answer, whole or broken off at any byte."""
    kind, lines, parts = draw(framed(payload))
    if content_type is not None:
        lines.append(f"{draw(any_case('content-type'))}: {content_type}")
    extra = [line for line in draw(more_headers) if kind != "close" or "Connection" not in line]
    version = "1.0" if kind != "chunked" and draw(seldom) else "1.1"
    first = f"HTTP/{version} {status} {draw(st.sampled_from(['OK', '', 'Any thing']))}"
    head = "\r\n".join([first, *draw(st.permutations(lines + extra)), "", ""]).encode()
    top = b"".join(draw(interims)) + head
    wire = top + b"".join(part for part, _ in parts)
    ended = kind == "close" or version == "1.0"
    at, end = draw(breaks(len(wire), ended=ended))
    ends_of_parts = list(itertools.accumulate((len(p) for p, _ in parts), initial=len(top)))[::3]
    whole_chunks = st.lists(st.sampled_from(ends_of_parts), max_size=30).map(lambda at: (at, 0))
    surplus = b"" if ended or at < len(wire) else draw(surpluses)
    return Told(
        status=status,
        content_type=content_type,
        payload=_within(parts, at - len(top)),
        wire=wire[:at] + surplus,
        cuts=draw(cuts | whole_chunks | st.just((ends_of_parts, 0))),
        end=end,
        surplus=bool(surplus),
        headed=at >= len(top),
        whole=end != RESET and at >= len(top) and (at == len(wire) or kind == "close"),
    )


@st.composite
def breaks(draw, size, *, ended):
    """Return how many of ``size`` bytes are sent, and what happens to the connection then.

    ``ended``: the answer is one after which the connection is closed.
    """
    match draw(st.sampled_from(["no", "no", "no", "leaves", "anywhere", "anywhere", "near"])):
        case "no":
            return size, CLOSE if ended else KEEP
        case "leaves":
            return size, CLOSE  # without a word
        case "near":
            at = size - draw(st.integers(1, 40))
        case _:
            at = draw(st.integers(0, size - 1))
    return max(0, at), draw(st.sampled_from([CLOSE, RESET]))


def _within(parts, count):
    """Return the payload in the first ``count`` bytes."""
    found = []
    for part, is_payload in parts:
        if is_payload:
            found.append(part[: max(count, 0)])
        count -= len(part)
    return b"".join(found)


cuts = st.tuples(
    st.lists(st.integers(0, 2**20), max_size=10), st.sampled_from([0, 0, 0, 0, 1, 2, 3, 10, 1000])
)
STREAM_TYPES = ["text/event-stream"] * 3 + [
    "text/event-stream; charset=utf-8",
    "text/event-stream;charset=UTF-8",
]
TYPES = ["application/json", "application/json; charset=utf-8", "text/plain", "audio/wav", None]
plain_payloads = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([b"{}", b"null", b"data: [DONE]\n\n", b'{"usage":{"prompt_tokens":"x"}}']),
    st.sampled_from([65_536, 262_143, 262_144, 262_145, 600_000]).map(lambda size: b"p" * size),
)
error_payloads = st.one_of(
    st.binary(max_size=100),
    errors.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            b"",
            b"[]",
            b'{"detail": "x"}',
            b'{"detail": [{"loc": ["body", "n"], "msg": "bad"}, 7]}',
            b'{"error": {"message": 7, "code": "x"}}',
            b'{"error": {"message": "\\ud800"}}',
            b'{"object":"error","message":"%b","param":[1],"code":400}' % WHERE.encode(),
            b"x" * 300_000,
            b"[" * 100_000,
        ]
    ),
)
statuses = st.sampled_from(
    [400, 403, 404, 405, 408, 409, 413, 418, 422, 429, 500, 501, 502, 503, 504, 529, 599]
)

stream_answers = st.tuples(st.sampled_from(STREAM_TYPES), streams()).flatmap(
    lambda pair: told(200, *pair)
)
plain_answers = st.tuples(st.sampled_from(TYPES), plain_payloads).flatmap(
    lambda pair: told(200, *pair)
)
error_answers = st.tuples(
    statuses, st.sampled_from([*TYPES, "text/event-stream"]), error_payloads
).flatmap(lambda found: told(*found))
odd_answers = st.tuples(
    st.sampled_from([201, 202, 206, 301, 302, 307]), st.sampled_from(TYPES), plain_payloads
).flatmap(lambda found: told(*found))

HALF = b'data: {"long":"' + b"x" * (LONG_EVENT + 100)
HALF_OF_A_LONG_EVENT = Told(
    status=200,
    content_type="text/event-stream",
    payload=HALF,
    wire=b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + HALF,
    cuts=([], 0),
    end=CLOSE,
    surplus=False,
    headed=True,
    whole=True,
)
"""A part of it passes, and then it breaks off: seldom drawn."""

CHUNKED = b"Transfer-Encoding: chunked\r\n"
NONSENSE = [
    b"",
    b"\r\n",
    b"garbage\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 1000 X\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" + CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabXX0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: a\0b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: a\r b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/\xff\xfe\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + CHUNKED + b"\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b"data: " + b"\xff" * 100,
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
]
nonsense = st.tuples(
    st.sampled_from(NONSENSE) | st.binary(max_size=60), cuts, st.sampled_from([CLOSE, RESET])
).map(lambda found: Script(cut(found[0], *found[1]) if found[0] else [], found[2]))


# The model: what a client may see of a whole stream, event by event.


class Seen(Struct):
    """What HTTP.md makes of the events of a stream that has ended."""

    out: bytes = b""
    begun: bool = False
    complete: bool = False
    refused: int = 0
    """The status of an error before the first event."""
    rest: bytes = b""
    """The part of an event at the end."""


def split(payload):
    """Return the events of ``payload``, each with its blank line, and what is left."""
    found = re.split(rb"(\r?\n\r?\n)", payload)
    return [a + b for a, b in zip(found[0:-1:2], found[1::2], strict=True)], found[-1]


def seen_of(events, rest, *, show_usage):
    """Return what a client sees of ``events`` and then an end."""
    seen, finished = Seen(rest=rest), False
    for event in events:
        lines = [line.rstrip(b"\r") for line in event.split(b"\n")]
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if not data:
            seen.out += event
            continue
        if data == [b"[DONE]"]:
            if finished:
                seen.out, seen.complete, seen.rest = seen.out + event, True, b""
                return seen
            continue
        value = _json(b"\n".join(data))
        if _is_error(value):
            seen.rest = b""
            if not seen.begun:
                seen.refused = _status(value)
            return seen
        seen.begun = True
        finished = finished or any(one.get("finish_reason") for one in value.get("choices", []))
        if not (value.get("choices") == [] and value.get("usage") and not show_usage):
            seen.out += event
    seen.begun = seen.begun or len(rest) > LONG_EVENT  # of a long event a part passes
    return seen


def _json(raw):
    value = json.loads(raw)
    return value if isinstance(value, dict) else {}


def _is_error(value):
    return isinstance(value.get("error"), dict | str) or value.get("object") == "error"


def _status(value):
    inner = value.get("error", value)
    code = inner.get("code", 500) if isinstance(inner, dict) else 500
    return int(code)
