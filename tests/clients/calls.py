"""How clients call in these tests: the official Python SDK, and bytes on a bare connection."""

import asyncio
import json
import re

import httpx
import openai
from msgspec import Struct

from tests.integration.router.world import MODEL, SECRET, head

HELLO = [{"role": "user", "content": "Say this is a test!"}]
GOOD = json.dumps({"model": MODEL}).encode()
STREAMED = json.dumps({"model": MODEL, "stream": True}).encode()
PATIENCE_S = 30


def official(world, **options):
    """Return the official client of ``world``; it does not retry unless it is told to."""
    given = {"base_url": world.base + "/v1", "api_key": SECRET, "max_retries": 0} | options
    return openai.AsyncOpenAI(**given)


async def chat(client, **fields):
    """Ask for an answer as most clients do."""
    return await client.chat.completions.create(**{"model": MODEL, "messages": HELLO} | fields)


async def post(client, content, path="/chat/completions", **headers):
    """Send ``content`` as it is, where the SDK itself would not make such a body."""
    options = {"headers": {name.replace("_", "-"): value for name, value in headers.items()}}
    return await client.post(path, cast_to=httpx.Response, content=content, options=options)


async def text_of(stream):
    """Return the text of a stream that came to its good end."""
    return "".join([one.choices[0].delta.content or "" async for one in stream if one.choices])


def checked(error):
    """Return an error of the SDK after looking at what all of them have in common."""
    headers, found = error.response.headers, error.response.json()
    assert headers["content-type"] == "application/json"
    assert set(found) == {"error"}
    assert set(found["error"]) == {"message", "type", "param", "code"}
    assert found["error"]["message"]
    assert error.request_id == headers["x-request-id"]
    assert error.status_code == error.response.status_code >= 400
    return error


class Answer(Struct, frozen=True):
    """One HTTP answer as it was on the wire, its body without the framing."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def status(self):
        return int(self.line.split(" ")[1])

    def __getitem__(self, name):
        """Return the value of a header that stands there once."""
        [value] = self.all(name)
        return value

    def all(self, name):
        return [value for key, value in self.headers if key == name]

    @property
    def error(self):
        """What the envelope says; only an error has one."""
        assert self.status >= 400
        assert self["content-type"] == "application/json"
        found = json.loads(self.body)
        assert set(found) == {"error"}
        assert set(found["error"]) == {"message", "type", "param", "code"}
        return found["error"]


async def answer(reader):
    """Read one answer; its framing must be right to the last byte."""
    async with asyncio.timeout(PATIENCE_S):
        line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        headers = [(name.lower(), value) for name, value in (one.split(": ", 1) for one in rest)]
        return Answer(line, headers, await _body(reader, line, dict(headers)))


async def _body(reader, line, headers):
    if re.match(r"HTTP/1\.1 (1..|204|304) ", line):
        return b""
    if headers.get("transfer-encoding") == "chunked":
        return await _chunked(reader)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()


async def _chunked(reader):
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body


async def asked(world, data):
    """Send ``data`` on a connection of its own and return the answer to it."""
    async with world.raw(data) as (reader, _):
        return await answer(reader)


def top(data, **more):
    """Return the bytes of a POST without its body."""
    return head(data, **more)[: -len(data)]


def chunks(*pieces):
    """Return ``pieces`` as the chunks of a body, without its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces)


def chunked_top(**more):
    """Return the head of a POST whose body comes in chunks."""
    return head(b"", **more).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


async def counted(world, **labels):
    """Return how many requests the router says that it has answered, by its own metrics."""
    found = await asked(world, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    lines = [
        line
        for line in found.body.decode().splitlines()
        if line.startswith("caravan_router_requests_total{")
        and all(f'{name}="{value}"' in line for name, value in labels.items())
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
