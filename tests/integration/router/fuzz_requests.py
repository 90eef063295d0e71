"""Strategies for requests: their bytes, and what may be answered to them."""

import gzip
import itertools
import json
import re

from hypothesis import strategies as st
from msgspec import Struct

from tests.integration.router.world import CHAT, MODEL, SECRET

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
HOT = [CHAT, "/v1/completions"]
NEW = ["/v1/embeddings", "/v1/rerank", "/v1/responses", "/v1/messages"]
"""Routes which this model may not offer: only the form of their answers is known."""
METHODS = ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
BODY_LIMIT = 100_000
TOKEN = "!#$%&'*+.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-"


class Asked(Struct, frozen=True):
    """One request as it is sent, and what is known of its answer."""

    method: str
    path: str
    head: bytes
    framed: bytes
    """The body as it goes over the wire."""
    body: bytes = b""
    """The body that the engine should get."""
    statuses: frozenset[int] | None = None
    """One of them is right; None: nothing but the form is known."""
    request_id: str = ""
    """The one that the answer must carry; empty: one that the router makes."""
    origin: bool = False
    stays: bool = True
    """Whether the client wants to go on with the connection."""
    expects: bool = False
    """Whether it says that it waits before it sends its body: who refuses it may close then."""
    old: bool = False
    """HTTP/1.0, whose clients know no chunks."""

    def __repr__(self):
        return f"<{self.statuses} {self.head!r} {self.framed[:200]!r} … {len(self.framed)} bytes>"

    @property
    def wire(self):
        return self.head + self.framed

    @property
    def hot(self):
        return self.method == "POST" and self.path.partition("?")[0] in HOT


seldom = st.sampled_from([False] * 9 + [True])


def one_of(*statuses):
    return frozenset(statuses)


# Bodies: their bytes, and which statuses are right.

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=3
        )
    ),
    max_leaves=8,
)
KNOWN = {"model", "stream", "stream_options", "input", "messages", "prompt"}
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name not in KNOWN
)
extras = st.dictionaries(names, json_values, max_size=4)
options = st.none() | st.fixed_dictionaries(
    {}, optional={"include_usage": st.none() | st.booleans(), "x": json_values}
)
streams = st.fixed_dictionaries(
    {}, optional={"stream": st.none() | st.booleans(), "stream_options": options}
)
forms = st.sampled_from(
    [
        {},
        {"separators": (",", ":")},
        {"indent": 1},
        {"ensure_ascii": False},
        {"indent": "\t", "separators": (" ,", " : ")},
    ]
)
space = st.text(" \t\r\n", max_size=3).map(str.encode)


@st.composite
def written(draw, fields):
    """Return ``fields`` as JSON in any order and form."""
    pairs = draw(st.permutations(list(fields.items())))
    return draw(space) + json.dumps(dict(pairs), **draw(forms)).encode() + draw(space)


@st.composite
def good_bodies(draw):
    return draw(written({"model": MODEL, **draw(streams), **draw(extras)})), one_of(200)


@st.composite
def odd_bodies(draw):
    """JSON that is one, with what parsers trip over."""
    odd = draw(
        st.sampled_from(
            [b"1e999", b"-0", b"1" * 5000, b"0." + b"1" * 400, b'"\\u0000"', b'"\\ud83d\\ude00"']
        )
    )
    return b'{"model": "%b", "x": %b}' % (MODEL.encode(), odd), one_of(200)


doubtful_bodies = st.sampled_from(
    [
        b'{"model": "%b", "x": NaN}' % MODEL.encode(),
        b'{"model": "%b", "x": "\xff\xfe"}' % MODEL.encode(),
        b'{"model": "%b", "x": "\\ud800"}' % MODEL.encode(),
        b'{"model": "%b", "x": %b}' % (MODEL.encode(), b"[" * 3000 + b"]" * 3000),
        b'{"model": "%b", "\xff": 1}' % MODEL.encode(),
        b'{"model": "other", "model": "%b"}' % MODEL.encode(),
        b'\xef\xbb\xbf{"model": "%b"}' % MODEL.encode(),
        b"[" * 100_000,
        b'{"model":' * 10_000,
        b'{"model": "\\ud800"}',
        b'{"model": "\xc3\x28"}',
        b'{"model": "a\\u0000b/c"}',
        b'{"model": "\\udc00\\ud800/x"}',
    ]
).map(lambda raw: (raw, one_of(200, 400, 404, 413, 503)))
wrong_types = st.sampled_from(
    [
        {"model": 7},
        {"model": None},
        {"model": [MODEL]},
        {"model": ""},
        {"model": {"a": MODEL}},
        {"model": MODEL, "stream": "yes"},
        {"model": MODEL, "stream": 1},
        {"model": MODEL, "stream": []},
        {"model": MODEL, "stream_options": 1},
        {"model": MODEL, "stream_options": "x"},
        {"model": MODEL, "stream_options": {"include_usage": "x"}},
        {},
    ]
)


@st.composite
def wrong_bodies(draw):
    return draw(written({**draw(extras), **draw(wrong_types)})), one_of(400)


@st.composite
def cut_bodies(draw):
    raw = draw(written({"model": MODEL, **draw(extras)})).strip()
    return raw[: draw(st.integers(0, len(raw) - 1))], one_of(400)


@st.composite
def followed_bodies(draw):
    raw = draw(written({"model": MODEL}))
    return raw + draw(st.sampled_from([b"x", b"{}", b",", b"\0", b"]"])), one_of(400)


no_objects = st.sampled_from(
    [b"", b" ", b"null", b"1", b'"x"', b"[]", b"not json", b"\xff\xfe{}"]
).map(lambda raw: (raw, one_of(400)))
strangers = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@st.composite
def stranger_bodies(draw):
    model = draw(strangers | st.sampled_from([f"{MODEL}x", "u-000000000000/test", "x" * 5000]))
    # Each may ask the bucket, which one address may do only so often: then it is 503.
    return draw(written({"model": model, **draw(extras)})), one_of(404, 503)


large_bodies = st.integers(BODY_LIMIT + 1, BODY_LIMIT + 40_000).map(
    lambda size: (b'{"model":"%b","x":"' % MODEL.encode() + b"y" * size + b'"}', one_of(413))
)
bodies = st.one_of(
    good_bodies(),
    good_bodies(),
    good_bodies(),
    odd_bodies(),
    doubtful_bodies,
    wrong_bodies(),
    cut_bodies(),
    followed_bodies(),
    no_objects,
    st.binary(max_size=100).map(lambda raw: (raw, one_of(200, 400, 404))),
    stranger_bodies(),
    large_bodies,
)


# Headers.

SPECIAL = re.compile(
    "content-.*|transfer-encoding|connection|upgrade|expect|host|origin|authorization|x-.*|te"
    "|trailer|access-control-.*|keep-alive|http2-settings|proxy-.*|sec-.*",
    re.IGNORECASE,
)
header_names = st.text(TOKEN, min_size=1, max_size=20).filter(lambda n: not SPECIAL.fullmatch(n))
header_values = st.one_of(
    st.binary(max_size=30).map(lambda raw: bytes(b for b in raw if b > 31 and b != 127)),
    st.sampled_from([b"", b"\ta\tb", b'a, b;c="d"', b"a" * 8000, "ü".encode()]),
)
header_lines = st.lists(
    st.tuples(header_names.map(str.encode), header_values), max_size=5
) | st.just([(b"X-Same", b"1"), (b"x-same", b"2"), (b"Cookie", b"a=b"), (b"User-Agent", b"x")])


@st.composite
def any_case(draw, name):
    return "".join(c.upper() if draw(st.booleans()) else c.lower() for c in name).encode()


GOOD_KEYS = [f"Bearer {SECRET}", f"bearer {SECRET}", f"BEARER   {SECRET}", f"  Bearer {SECRET} "]
BAD_KEYS = ["", "Bearer", "Bearer ", "Basic eDp5", f"Bearer {SECRET}x", SECRET, "Bearer \xff"]
request_ids = st.one_of(
    st.none(),
    st.text("abcXYZ019._-", min_size=1, max_size=128),
    st.sampled_from(["", "x" * 129, "a b", "a/b", "ü", "a\tb", "<x>"]),
)


trailers = st.sampled_from(["", "", "X-Sum: 1\r\n", f"Authorization: Bearer {SECRET}\r\n"])
"""What follows a chunked body adds nothing to the head."""


@st.composite
def chunks(draw, body):
    """Return ``body`` chunked, in chunks of any size, with what may stand between them."""
    places = (
        sorted({at % len(body) for at in draw(st.lists(st.integers(0, 2**20), max_size=4))})
        if body
        else []
    )
    edges = [0, *[p for p in places if p], len(body)]
    out = []
    for a, b in itertools.pairwise(edges):
        if a == b:
            continue
        size = draw(st.sampled_from(["{:x}", "{:X}", "{:06x}"])).format(b - a)
        extension = draw(st.sampled_from(["", "", ";a", ";a=b", ';name="a b"', ";a=1;b=2"]))
        out.append(f"{size}{extension}\r\n".encode() + body[a:b] + b"\r\n")
    trailer = draw(trailers)
    return b"".join(out) + b"0\r\n" + trailer.encode() + b"\r\n"


@st.composite
def encoded(draw, body, statuses):
    """Return a body as it is sent, its Content-Encoding, and what may be answered then."""
    kind = draw(st.sampled_from(["", "", "", "gzip", "x-gzip", "two", "identity", "bad", "br"]))
    match kind:
        case "":
            return body, None, statuses
        case "identity":
            return body, b"identity", statuses
        case "br":
            return body, b"br", one_of(415, 413) if len(body) > BODY_LIMIT else one_of(415)
        case "bad":
            return b"\x1f\x8b" + body[:BODY_LIMIT], b"gzip", one_of(400, 413)
        case "two":
            middle = len(body) // 2
            return gzip.compress(body[:middle]) + gzip.compress(body[middle:]), b"gzip", statuses
        case name:
            return gzip.compress(body, mtime=0), name.encode(), statuses


@st.composite
def posts(draw, paths):
    """A POST with any body, key, framing and headers."""
    body, statuses = draw(bodies)
    sent, encoding, statuses = draw(encoded(body, statuses))
    lines = list(draw(header_lines))
    if encoding is not None:
        lines.append((draw(any_case("content-encoding")), encoding))
    if draw(seldom):
        if draw(st.booleans()):
            lines.append((b"Authorization", draw(st.sampled_from(BAD_KEYS)).encode("latin-1")))
        statuses = one_of(401)
    else:
        lines.append((draw(any_case("authorization")), draw(st.sampled_from(GOOD_KEYS)).encode()))
    path = draw(st.sampled_from(paths))
    if path in HOT:
        path += draw(st.sampled_from(["", "", "", "?", "?a=b&c", "?x=%00"]))
    else:
        statuses = None
    return draw(framed("POST", path, lines, sent, body, statuses))


@st.composite
def framed(draw, method, path, lines, sent, body, statuses):  # noqa: PLR0917
    version = draw(st.sampled_from(["1.1"] * 12 + ["1.0"]))
    lines = [(b"Host", b"x"), *lines]
    if version == "1.1" and sent and draw(st.booleans()):
        lines.append(
            (draw(any_case("transfer-encoding")), draw(st.sampled_from([b"chunked", b"Chunked"])))
        )
        wire = draw(chunks(sent))
    else:
        if sent or method == "POST":
            lines.append((draw(any_case("content-length")), str(len(sent)).encode()))
        wire = sent
    if version == "1.1" and sent and draw(seldom):
        lines.append((b"Expect", b"100-continue"))
    stays = version == "1.1"
    wish = draw(st.sampled_from([None] * 16 + [b"close", b"Close", b"keep-alive", b"Keep-Alive"]))
    if wish is not None:
        lines.append((b"Connection", wish))
        stays = stays and wish.lower() != b"close"
    given = draw(request_ids)
    if given is not None:
        lines.append((b"X-Request-Id", given.encode()))
    origin = draw(seldom)
    if origin:
        lines.append((b"Origin", b"https://app.example"))
    lines = draw(st.permutations(lines))
    head = b"%b %b HTTP/%b\r\n" % (method.encode(), path.encode(), version.encode())
    head += b"".join(
        b"%b:%b%b\r\n" % (n, draw(st.sampled_from([b" ", b"", b"\t "])), v) for n, v in lines
    )
    return Asked(
        method=method,
        path=path,
        head=head + b"\r\n",
        framed=wire,
        body=body,
        statuses=statuses,
        request_id=given if given is not None and REQUEST_ID.fullmatch(given) else "",
        origin=origin,
        stays=stays,
        expects=(b"Expect", b"100-continue") in lines,
        old=version == "1.0",
    )


@st.composite
def others(draw):
    """Everything else: the models, paths that are none, methods that are wrong, preflights."""
    good = draw(st.booleans())
    lines = list(draw(header_lines))
    if good:
        lines.append((b"Authorization", draw(st.sampled_from(GOOD_KEYS)).encode()))
    with_key = lambda status: one_of(status if good else 401)  # noqa: E731
    method, path, statuses = draw(
        st.sampled_from(
            [
                ("GET", "/v1/models", with_key(200)),
                ("GET", "/v1/models?x=1", with_key(200)),
                ("GET", f"/v1/models/{MODEL}", with_key(200)),
                ("GET", "/v1/models/nope", with_key(404)),
                ("GET", "/health", one_of(200)),
                ("GET", "/", one_of(404)),
                ("GET", "/v2/none", one_of(404)),
                ("POST", "/v1/none", one_of(404)),
                ("POST", "/v1/chat", one_of(404)),
                ("POST", "/v1/models", one_of(405)),
                ("DELETE", "/v1/models", one_of(405)),
                ("HEAD", "/v1/models", None),
                ("HEAD", "/none", None),
                ("GET", "/%ff%fe", None),
                ("GET", "/a%00b/..//x", None),
                ("GET", "*", None),
                ("GET", "http://x/v1/models", None),
                *((method, hot, one_of(405)) for method in METHODS for hot in HOT),
            ]
        )
    )
    if method == "OPTIONS" and draw(st.booleans()):
        lines += [(b"Origin", b"https://a.b"), (b"Access-Control-Request-Method", b"POST")]
        return draw(framed(method, path, lines, b"", b"", one_of(204)))
    sent = draw(st.sampled_from([b"", b"", b'{"model":"x"}', b"GET / HTTP/1.1\r\n\r\n"]))
    return draw(framed(method, path, lines, sent, sent, statuses))


requests = st.one_of(posts(HOT), posts(HOT), others(), posts(HOT + NEW))
cuts = st.tuples(
    st.lists(st.integers(0, 2**20), max_size=12), st.sampled_from([0, 0, 0, 0, 1, 2, 7, 100, 4096])
)
"""Where to cut what is sent; see :func:`tests.integration.router.wire.cut`."""
