"""What a hot route refuses and what the other routes refuse looks the same, whoever answers."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caravan.contracts import keys
from tests.integration.router.fuzz_requests import BAD_KEYS, header_lines, request_ids
from tests.integration.router.live import Live, bounded
from tests.integration.router.wire import Client
from tests.integration.router.world import CHAT, SECRET

REVOKED, EXPIRED = keys.mint(2**254 + 3), keys.mint(2**254 + 5)
OWN = {"openai-processing-ms"}
"""Differs by nature, as does an id that was made."""


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with Live(tmp_path_factory.mktemp("live")) as live:
        live.run(live.world.key(REVOKED, id="k-2", state="revoked"))
        live.run(live.world.key(EXPIRED, id="k-3", expires_at=1.0))
        yield live


async def one(live, first, lines, version):
    """Return the only answer to one request, and whether the connection stayed after it."""
    head = b"".join(b"%b: %b\r\n" % pair for pair in lines)
    async with Client(live.port) as client:
        await client.send([b"%b HTTP/%b\r\n%b\r\n" % (first, version, head)])
        answer = await client.answer()
        assert answer is not None
        assert answer.whole
        await client.send([b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
        stayed = await client.answer("GET") is not None
    return answer, stayed


def comparable(answer, given):
    """Return what must be the same for both routes."""
    headers = {name: value for name, value in answer.headers.items() if name not in OWN}
    if headers["x-request-id"] != given:
        assert re.fullmatch("req-[0-9a-f]+", headers["x-request-id"])
        headers["x-request-id"] = "made"
    return answer.status, headers, answer.body, answer.framing


async def both(live, lines, version, given):
    """Send the same head to a hot route and to one of Litestar's."""
    # Without a body, so that only the head speaks: the key is looked at first on either route.
    hot = await one(live, f"POST {CHAT}".encode(), [*lines, (b"Content-Length", b"0")], version)
    other = await one(live, b"GET /v1/models", lines, version)
    assert comparable(hot[0], given) == comparable(other[0], given)
    assert hot[1] == other[1]
    await live.settled()
    return hot[0]


wrong_keys = st.one_of(
    st.none(),
    st.sampled_from([*BAD_KEYS, f"Bearer {REVOKED}", f"bearer {EXPIRED}"]),
    st.text("Bearick-_ \tABC09", max_size=60),
)
wishes = st.sampled_from([None, None, b"close", b"Close", b"keep-alive", b"Keep-Alive", b"x"])


@given(
    wrong_keys,
    request_ids,
    st.none() | st.sampled_from([b"https://app.example", b"null", b""]),
    wishes,
    st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]),
    header_lines,
)
@example(None, "a", b"null", b"keep-alive", b"1.0", [])
@example("Bearer x", "", b"", b"close", b"1.1", [])
@bounded(200)
def test_a_refused_key_is_refused_the_same(live, key, given, origin, wish, version, more):  # noqa: PLR0917
    lines = [(b"Host", b"x"), *more]
    if key is not None:
        lines.append((b"Authorization", key.encode("latin-1")))
    if given is not None:
        lines.append((b"X-Request-Id", given.encode()))
    if origin is not None:
        lines.append((b"Origin", origin))
    if wish is not None:
        lines.append((b"Connection", wish))
    answer = live.run(both(live, lines, version, given))
    assert answer.status == 401
    assert answer.json["error"]["code"] == "invalid_api_key"
    assert ("access-control-allow-origin" in answer.headers) == (origin is not None)


@given(st.integers(66_000, 300_000), st.booleans(), st.booleans())
@bounded(15)
def test_a_head_that_is_too_large_is_refused_the_same(live, size, many, good):
    lines = [(b"Host", b"x"), (b"Origin", b"https://app.example")]
    if good:
        lines.append((b"Authorization", b"Bearer " + SECRET.encode()))
    if many:
        lines += [(b"X-%d" % n, b"a" * 500) for n in range(size // 500)]
    else:
        lines.append((b"X-Pad", b"a" * size))
    assert live.run(both(live, lines, b"1.1", None)).status == 431


@given(
    st.sampled_from([CHAT, "/v1/completions", "/v1/models"]),
    st.sampled_from(["authorization", "content-type,x-stainless-os", "x-evil", "", "A, B"]),
    st.sampled_from([b"1.1", b"1.0"]),
    request_ids,
)
@bounded(40)
def test_a_preflight_is_answered_the_same(live, path, wanted, version, given):
    lines = [
        (b"Host", b"x"),
        (b"Origin", b"https://app.example"),
        (b"Access-Control-Request-Method", b"POST"),
        (b"Access-Control-Request-Headers", wanted.encode()),
    ]
    if given is not None:
        lines.append((b"X-Request-Id", given.encode()))

    async def pair():
        hot, _ = await one(live, f"OPTIONS {path}".encode(), lines, version)
        other, _ = await one(live, b"OPTIONS /v1/models", lines, version)
        assert comparable(hot, given) == comparable(other, given)
        assert hot.status == 204
        await live.settled()

    live.run(pair())
