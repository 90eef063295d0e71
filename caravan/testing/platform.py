"""A whole platform for tests: ``caravan up`` in a home of its own, watched and hurt at will."""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec import Struct

from caravan.cli import ports, running, sessions
from caravan.cli.home import Context, Home
from caravan.contracts import admin, topology
from caravan.kit.bus import Bus
from caravan.kit.process import Identity, alive, ended
from caravan.testing.wait import until

FAKE_ENGINE = shlex.join([sys.executable, "-m", "caravan.testing.engine"])
PATIENCE_S = 90.0
"""For whatever is waited for; a busy machine is slow."""
_OURS = ("CARAVAN_", "OPENAI_", "COLUMNS", "LINES")


class Ran(Struct, frozen=True):
    """How a command ended and what it wrote."""

    exit: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the command says
        """What it wrote to stdout, as the one JSON document that it is."""
        return msgspec.json.decode(self.stdout)

    @property
    def problem(self) -> dict[str, Any]:
        """What it wrote to stderr with ``--json`` when it was refused."""
        return msgspec.json.decode(self.stderr, type=dict[str, Any])


class Platform:
    """NATS, auth, scheduler and router of ``caravan up``, with an engine that needs no model.

    ``with`` starts and ends it; ``async with`` also gives ``bus``. Ports are its own, so several
    may run. ``folder`` holds the home, its logs and what tests put beside them; starting again in
    the same folder finds the same data.
    """

    def __init__(
        self,
        folder: Path,
        *,
        engine_command: str = FAKE_ENGINE,
        engine_kind: str = "fake",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """``environ`` is added to what every process gets; ``engine_command`` is shell words."""
        self.folder = folder
        self.home = Home(folder / ".caravan")
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(_OURS)},
            "CARAVAN_HOME": str(self.home.root),
            "CARAVAN_ENGINE_COMMAND": engine_command,
            "CARAVAN_ENGINE_KIND": engine_kind,
            "ROUTER_ADMIN_PORT": "0",  # several platforms may choose at once
            **(environ or {}),
        }
        self.port, self.nats_port = ports.quiet(), ports.quiet()
        self._bus: Bus | None = None
        self._connection = AsyncExitStack()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.up)
        await self._connection.enter_async_context(self.connected())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.aclose()
        await asyncio.to_thread(self.down)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Self]:
        """Give ``bus`` to a platform that runs already, as where many tests share one."""
        async with Bus(self.context.nats_url, name="test") as self._bus:
            await self._bus.established(PATIENCE_S)
            yield self
        self._bus = None

    # --- its life

    def up(self, *options: str) -> Ran:
        """Start what does not run and wait until all is ready; a failed start leaves nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        own = ("--port", str(self.port), "--nats-port", str(self.nats_port))
        ran = self.run("up", "--detach", "--wait", f"{PATIENCE_S:.0f}s", *own, *options)
        if ran.exit:
            raise RuntimeError(f"caravan up: {ran.exit}\n{ran.stderr}")
        return ran

    def down(self, *, grace_s: float = 5.0) -> Ran:
        """End all of it."""
        return self.run("down", "--grace", f"{grace_s:.0f}s")

    # --- the command

    def run(
        self,
        *arguments: str,
        stdin: str = "",
        environ: Mapping[str, str] | None = None,
        timeout_s: float = 900.0,
    ) -> Ran:
        """Run a command to its end, in this thread; ``environ`` is added to its environment."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "caravan.cli", *arguments],
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    async def cli(self, *arguments: str, stdin: str = "", timeout_s: float = 900.0) -> Ran:
        """Run a command to its end while the loop goes on."""
        return await asyncio.to_thread(self.run, *arguments, stdin=stdin, timeout_s=timeout_s)

    async def ok(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever the command says
        """Return the document of a command that must succeed; ``--json`` is added."""
        ran = await self.cli(*arguments, "--json")
        assert ran.exit == 0, f"caravan {shlex.join(arguments)}: {ran.exit}\n{ran.stderr}"
        return ran.json

    # --- asking

    @property
    def context(self) -> Context:
        """What ``context.json`` says now."""
        context = self.home.read()
        assert context is not None, "it was never up"
        return context

    @property
    def tenant(self) -> str:
        return self.context.tenant

    @property
    def router_url(self) -> str:
        return self.context.router_url

    @property
    def nats_url(self) -> str:
        return self.context.nats_url

    @property
    def base_url(self) -> str:
        """What an OpenAI client wants."""
        return f"{self.router_url}/v1"

    @property
    def bus(self) -> Bus:
        """A connection that is made again for ever; inside ``async with`` only."""
        assert self._bus is not None, "use `async with`"
        return self._bus

    async def ask(self, endpoint: topology.Endpoint, request: admin.Request) -> Any:  # noqa: ANN401 - ``endpoint.answer``
        """Return the answer to this platform's tenant; raises what was refused."""
        tenant = self.tenant if endpoint.subject.endswith(".*") else ""
        return await self.bus.ask(endpoint, request, tenant=tenant, timeout_s=PATIENCE_S)

    async def key(self, **fields: Any) -> str:  # noqa: ANN401 - of ``CreateKey``
        """Return the secret of a new API key."""
        request = admin.CreateKey(request_id=uuid.uuid4().hex, **fields)
        return str((await self.ask(topology.CREATE_KEY, request)).secret)

    async def deployment(self, name: str) -> admin.Deployment:
        """Return what the scheduler says of it."""
        found: admin.Deployment = await self.ask(
            topology.GET_DEPLOYMENT, admin.GetDeployment(name=name)
        )
        return found

    async def reached(
        self, name: str, state: str, ready: int | None = None, *, timeout_s: float = PATIENCE_S
    ) -> admin.Deployment:
        """Return the deployment once it is in ``state``, with so many instances ready."""
        seen: list[admin.Deployment] = []

        async def there() -> bool:
            seen.append(await self.deployment(name))
            return seen[-1].state == state and ready in {None, seen[-1].ready}

        try:
            await until(there, timeout_s)
        except TimeoutError:
            raise AssertionError(f"{name} is not {state}, ready {ready}: {seen[-1:]}") from None
        return seen[-1]

    # --- its processes

    def process(self, name: str) -> Identity:
        """Return who runs as supervisor, nats, auth, scheduler or router."""
        who = running.lives(self.home, name)
        if who is None:
            raise ProcessLookupError(f"no {name} runs")
        return who

    def workers(self) -> dict[str, Identity]:
        """Return the live workers by instance."""
        return running.living(self.home)

    @property
    def embedded(self) -> bool:
        """Whether workers are processes of this machine, which ``workers`` sees."""
        return self.environ.get("SCHEDULER_CLUSTER", "process") == "process"

    def engines(self) -> dict[str, list[Identity]]:
        """Return what each live worker has started, by instance."""
        return {
            instance: [one for one in sessions.members(who.pid) if one != who]
            for instance, who in self.workers().items()
        }

    async def kill(self, who: Identity) -> None:
        """Kill one process at once, and return when it has ended."""
        if alive(who):
            os.kill(who.pid, signal.SIGKILL)
        await asyncio.wait_for(ended(who), PATIENCE_S)

    async def replaced(self, name: str, former: Identity) -> Identity:
        """Return who runs as ``name`` in place of ``former``."""
        found: list[Identity | None] = []

        def there() -> bool:
            found.append(running.lives(self.home, name))
            return found[-1] not in {None, former}

        await until(there, PATIENCE_S)
        assert found[-1] is not None  # but may have ended meanwhile
        return found[-1]

    def log(self, name: str) -> str:
        """Return all that a service has printed."""
        return self.home.log(name).read_text(errors="replace")
