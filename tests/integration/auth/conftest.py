"""A real auth process over a real NATS: killed, restarted, given another database."""

import asyncio
import contextlib
import os
import signal
import sys
import uuid

import pytest

from caravan.contracts import admin, topology
from caravan.contracts.errors import UnavailableError
from caravan.contracts.keys import KeyEntry, digest
from caravan.kit.buckets import open_bucket
from caravan.kit.records import read

PATIENCE_S = 90


class Auth:
    """``python -m services.auth`` with one database, and those who ask it."""

    def __init__(self, bus, nats_url, database_url, folder):
        self.bus, self.nats_url, self.folder = bus, nats_url, folder
        self.database_url = database_url
        self.tenant = ""
        self.process = None

    async def start(self):
        """Start it, and wait until it answers."""
        with (self.folder / "auth.log").open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "services.auth"),
                stdout=output,
                stderr=output,
                env=self.environ(),
            )
        page = await self.patiently(topology.LIST_TENANTS, admin.ListTenants())
        self.tenant = self.tenant or (page.items[0].id if page.items else "")

    def environ(self, **more):
        return {
            **os.environ,
            "AUTH_NATS_URL": self.nats_url,
            "AUTH_DATABASE_URL": self.database_url,
            "AUTH_LOG_FORM": "json",
            **more,
        }

    async def stop(self):
        """End it in order; return its exit status."""
        return await self._end(signal.SIGTERM)

    async def kill(self):
        return await self._end(signal.SIGKILL)

    async def _end(self, number):
        process, self.process = self.process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        return await asyncio.wait_for(process.wait(), PATIENCE_S)

    async def ask(self, endpoint, request, *, tenant=None, **more):
        if not endpoint.subject.endswith("*"):
            tenant = ""
        tenant = self.tenant if tenant is None else tenant
        return await self.bus.ask(endpoint, request, tenant=tenant, timeout_s=30, **more)

    async def patiently(self, endpoint, request, **more):
        """Ask until somebody answers, as a command that is run again would."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(UnavailableError):
                    return await self.ask(endpoint, request, **more)
                if self.process is not None and self.process.returncode is not None:
                    raise AssertionError((self.folder / "auth.log").read_text()[-3000:])
                await asyncio.sleep(0.1)

    async def create(self, label="", **more):
        ask = admin.CreateKey(request_id=new_id(), label=label, **more)
        return await self.ask(topology.CREATE_KEY, ask)

    async def keys(self):
        found, cursor = [], ""
        while True:
            ask = admin.ListKeys(cursor=cursor, limit=1000)
            page = await self.ask(topology.LIST_KEYS, ask)
            found += page.items
            cursor = page.cursor
            if not cursor:
                return found

    async def entry(self, secret):
        """What the routers can know of a key."""
        found = await read(await open_bucket(self.bus, topology.KEYS), digest(secret), KeyEntry)
        return None if found is None else found.value

    async def entry_becomes(self, secret, wanted):
        """Wait until the bucket says of the key what is wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(UnavailableError):
                    entry = await self.entry(secret)
                    if wanted(entry):
                        return entry
                await asyncio.sleep(0.05)


def new_id():
    return uuid.uuid4().hex


@pytest.fixture
async def auth(bus, nats_server, tmp_path):
    """Auth on SQLite, answering."""
    one = Auth(bus, nats_server.url, f"sqlite:///{tmp_path}/auth.db", tmp_path)
    await one.start()
    yield one
    await one.kill()


@pytest.fixture
async def auth_on_each(bus, nats_server, tmp_path, database_url):
    """Auth on SQLite, then on PostgreSQL."""
    one = Auth(bus, nats_server.url, database_url, tmp_path)
    await one.start()
    yield one
    await one.kill()
