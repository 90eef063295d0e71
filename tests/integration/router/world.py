"""A router of its own over a real NATS, with buckets that the test writes by hand."""

import asyncio
import contextlib
import time

import aiohttp
import msgspec

from caravan.contracts import keys, names, topology
from caravan.contracts.admin import RouterStatusRequest
from caravan.contracts.deployments import DeploymentEntry, Verdict
from caravan.contracts.errors import UnavailableError
from caravan.contracts.instances import Record
from caravan.contracts.keys import KeyEntry
from caravan.contracts.reports import Report
from caravan.kit import buckets, records
from caravan.testing.nats import free_port
from services.router.app import serve
from services.router.settings import Settings

TENANT = "u-8105f7322477"
MODEL = f"{TENANT}/test"
SECRET = keys.mint(2**255 + 17)
CHAT = "/v1/chat/completions"
DEADLINE_S = 60


def body(**more):
    return {"model": MODEL, "messages": [{"role": "user", "content": "Say this"}], **more}


async def until(condition, what="the condition"):
    """Wait until ``condition()`` is true; fail after a minute."""
    end = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} never came true"
        await asyncio.sleep(0.01)
    return found


async def eventually(condition, what="the condition"):
    """As ``until``, for a coroutine function."""
    end = time.monotonic() + DEADLINE_S
    while not (found := await condition()):
        assert time.monotonic() < end, f"{what} never came true"
        await asyncio.sleep(0.02)
    return found


class World:
    """Buckets, one router, and an HTTP client; ``async with`` starts what ``router`` asks for."""

    def __init__(self, bus, folder):
        self.bus, self.folder = bus, folder
        self.port = free_port()
        self.stopping = asyncio.Event()
        self._task = None
        self.settings = {}

    @property
    def base(self):
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self):
        await self.open_buckets()
        self.http = aiohttp.ClientSession(auto_decompress=False)
        return self

    async def __aexit__(self, *_):
        await self.http.close()
        await self.stop()

    async def open_buckets(self):
        """Make the buckets; again after NATS lost its disk."""
        self._buckets = {
            b.name: await buckets.open_bucket(self.bus, b)
            for b in (topology.KEYS, topology.DEPLOYMENTS, topology.INSTANCES)
        }

    async def complete(self):
        """Say as the owners do that their buckets are whole."""
        for bucket in (topology.KEYS, topology.DEPLOYMENTS):
            await buckets.write_complete(self.bus, bucket, 1)

    async def key(self, secret=SECRET, **fields):
        entry = KeyEntry(**{"id": "k-1", "tenant": TENANT, "state": "active"} | fields)
        await records.put(self._buckets["keys"], keys.digest(secret), entry)

    async def deploy(self, path=MODEL, instances=(), **fields):
        """Write a deployment with a verdict per instance."""
        words = instances if isinstance(instances, dict) else dict.fromkeys(instances, "serve")
        entry = DeploymentEntry(
            **{
                "task": "text-generation",
                "generations": [1],
                "state": "running",
                "verdicts": {name: Verdict(word=word) for name, word in words.items()},
                "created_at": 1733724462.0,
            }
            | fields
        )
        key = names.deployment_key(*names.split_path(path))
        return await records.put(self._buckets["deployments"], key, entry)

    async def delete_deployment(self, path=MODEL):
        key = names.deployment_key(*names.split_path(path))
        await records.delete(self._buckets["deployments"], key)

    async def record(self, instance, url, path=MODEL, **fields):
        record = Record(
            **{
                "incarnation": f"inc-{instance}",
                "term": 1,
                "generation": 1,
                "state": "ready",
                "url": url,
                "engine_key": f"ek-{instance}",
                "max_model_len": 2048,
            }
            | fields
        )
        key = names.instance_key(*names.split_path(path), instance)
        await records.put(self._buckets["instances"], key, record)

    async def serving(self, *engines, path=MODEL, engine_key=None, **fields):
        """One key, one deployment, an instance per engine (i-aaaaaa, i-bbbbbb …), and a router."""
        named = {f"i-{'abcdefgh'[n] * 6}": engine for n, engine in enumerate(engines)}
        await self.key()
        await self.deploy(path, list(named), **fields)
        for instance, engine in named.items():
            key = engine_key or f"ek-{instance}"
            await self.record(instance, engine.url, path, engine_key=key)
        await self.complete()
        await self.start()
        return self

    async def start(self, **settings):
        """Start a router and wait for its port; it may be a second one after ``stop``."""
        self.settings |= settings
        self.stopping = asyncio.Event()
        self._task = asyncio.create_task(
            serve(
                Settings(
                    **{
                        "nats_url": self.bus.url,
                        "port": self.port,
                        "admin_port": 0,
                        "views_dir": self.folder / "views",
                        "grace_s": 10.0,
                    }
                    | self.settings
                ),
                self.stopping,
            )
        )
        await self.open()

    async def open(self):
        async def answers():
            assert not self._task.done(), self._task.result()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return False
            # While nobody listens, a connection may reach itself.
            itself = writer.get_extra_info("sockname") == writer.get_extra_info("peername")
            writer.close()
            await writer.wait_closed()
            return not itself

        await eventually(answers, "the router's port")

    async def report(self):
        """Return what the router says of itself."""

        async def ask():
            with contextlib.suppress(UnavailableError):
                return await self.bus.ask(topology.ROUTER_STATUS, RouterStatusRequest())

        status = await eventually(ask, "the router's status")
        return msgspec.json.decode(status.report, type=Report)

    async def seen(self, bucket, sequence):
        """Wait until the router's view of ``bucket`` has read ``sequence``."""

        async def read():
            return (await self.report()).positions[bucket].sequence >= sequence

        await eventually(read, f"sequence {sequence} of {bucket}")

    def log(self):
        """Return the whole lines of what a router process of this world has logged so far."""
        return (self.folder / "router.log").read_text().rpartition("\n")[0].splitlines()

    async def stop(self):
        self.stopping.set()
        if self._task is not None:
            task, self._task = self._task, None
            await task

    @contextlib.asynccontextmanager
    async def post(self, data, path=CHAT, secret=SECRET, headers=None, **more):
        """POST; ``data`` may be a dict, or what aiohttp takes."""
        auth = {"authorization": f"Bearer {secret}"} if secret else {}
        raw = msgspec.json.encode(data) if isinstance(data, dict) else data
        async with self.http.post(
            self.base + path, data=raw, headers=auth | (headers or {}), **more
        ) as response:
            yield response

    async def asked(self, data, path=CHAT, **more):
        """POST and read all: status, headers, body as an object."""
        async with self.post(data, path, **more) as response:
            return response.status, response.headers, msgspec.json.decode(await response.read())

    async def refused(self, data, path=CHAT, **more):
        """POST and return status and the error of the envelope."""
        status, headers, found = await self.asked(data, path, **more)
        assert status >= 400
        assert headers["content-type"] == "application/json"
        assert set(found) == {"error"}
        assert set(found["error"]) == {"message", "type", "param", "code"}
        return status, found["error"]

    async def streamed(self, data, **more):
        """POST and return the text of a stream to its end."""
        async with self.post(data | {"stream": True}, **more) as response:
            return response.status, (await response.read()).decode()

    @contextlib.asynccontextmanager
    async def raw(self, data=b""):
        """A bare connection to the router, with ``data`` sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def head(data, path=CHAT, secret=SECRET, extra=""):
    """Return the bytes of a POST."""
    auth = f"Authorization: Bearer {secret}\r\n" if secret else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\n{auth}{extra}Content-Length: {len(data)}\r\n\r\n"
    ).encode() + data


async def serves(world):
    """Wait until a router on the world's port answers a request well."""

    async def answers():
        try:
            return (await world.asked(body()))[0] == 200
        except OSError:
            return False

    await eventually(answers)
