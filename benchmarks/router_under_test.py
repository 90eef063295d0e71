"""The real router, ready to be measured: ``python -m benchmarks.router_under_test``.

    K=$(python -m benchmarks.router_under_test --make-key)
    python -m benchmarks.router_under_test --port 18080 --model u-8105f7322477/fake --key $K \\
        --engine http://127.0.0.1:19001 --engine http://127.0.0.1:19002 --pids-file pids

Starts a nats-server with the buckets and streams of a platform, writes what auth, scheduler and
workers would write there (the key, one running deployment, per ``--engine`` one ready instance
with room for 4,096 requests), and starts ``python -m services.router`` on it with everything on.
Prints one line on stdout when a request can be routed; SIGTERM or SIGINT end all of it. Variables
``ROUTER_…`` of the environment reach the router, but for those that the arguments decide.

Exit: 0 ended when told to, 1 the router did not start or ended by itself, 2 wrong arguments.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import secrets
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from msgspec import Struct

from benchmarks.processes import tree
from caravan.contracts import keys, names, topology
from caravan.contracts.deployments import SERVE, TEXT_GENERATION, DeploymentEntry, Verdict
from caravan.contracts.errors import Refusal
from caravan.contracts.instances import READY, Record
from caravan.contracts.keys import KeyEntry
from caravan.kit import buckets, records
from caravan.kit import log as logs
from caravan.kit.bus import Bus
from caravan.testing.nats import NatsServer

HOST = "127.0.0.1"
MAX_RUNNING = 4096
PATIENCE_S = 60.0
GRACE_S = 5.0
"""Requests under way get so long when all is told to end."""
_NOT_ROUTED = frozenset({401, 404, 502, 503})
_INSTANCE_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_CONNECTIONS_PER_PROCESS = 8
"""Enough that, with the kernel spreading them, hardly a process goes without one."""


class Asked(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    port: int
    tenant: str
    name: str
    key: str
    engines: tuple[str, ...]
    processes: int = 1
    pids_file: Path | None = None

    @property
    def model(self) -> str:
        return names.path(self.tenant, self.name)


class UnfitError(Exception):
    """The arguments, or what came of them; a sentence for the user."""


def asked(arguments: Sequence[str]) -> Asked | None:
    """Return what ``arguments`` ask for; None when only a key is wanted. ``UnfitError``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.router_under_test", description="The router, to be measured."
    )
    parser.add_argument(
        "--make-key", action="store_true", help="print a key of valid form, and end"
    )
    parser.add_argument("--port", type=int, help="of the router, on 127.0.0.1")
    parser.add_argument("--model", help="<tenant>/<name>, e.g. u-8105f7322477/fake")
    parser.add_argument("--key", help="what clients send; --make-key makes one")
    parser.add_argument("--engine", action="append", default=[], metavar="URL", help="repeatable")
    parser.add_argument("--processes", type=int, default=1, help="of the router (default 1)")
    parser.add_argument("--pids-file", type=Path, help="gets the router's pids, one a line")
    given = parser.parse_args(arguments)
    if given.make_key:
        return None
    if given.port is None or not given.model or not given.key or not given.engine:
        parser.error("--port, --model, --key and at least one --engine are needed")
    tenant, name = _model(given.model)
    if not keys.well_formed(given.key):
        raise UnfitError(
            "--key has not the form of a Caravan key (ck-, 43 digits, 6 digits of checksum): "
            "`python -m benchmarks.router_under_test --make-key` prints one"
        )
    return Asked(
        port=given.port,
        tenant=tenant,
        name=name,
        key=given.key,
        engines=tuple(url.rstrip("/") for url in given.engine),
        processes=given.processes,
        pids_file=given.pids_file,
    )


def _model(model: str) -> tuple[str, str]:
    parts = names.split_path(model)
    if parts is None:
        raise UnfitError(
            f"--model {model} is no model id: {names.TENANT_RULE}, then a slash and a name, "
            "e.g. u-8105f7322477/fake"
        )
    return parts


async def announce(bus: Bus, what: Asked) -> None:
    """Write what auth, scheduler and workers say of the key, the deployment and its instances."""
    for stream in topology.STREAMS:
        await buckets.open_stream(bus, stream)
    opened = {one.name: await buckets.open_bucket(bus, one) for one in topology.BUCKETS}
    entry = KeyEntry(id="k-bench0", tenant=what.tenant, state="active")
    await records.put(opened[topology.KEYS.name], keys.digest(what.key), entry)
    instances = {instance_name(n): url for n, url in enumerate(what.engines)}
    for instance, url in instances.items():
        where = names.instance_key(what.tenant, what.name, instance)
        await records.put(opened[topology.INSTANCES.name], where, _record(instance, url))
    where = names.deployment_key(what.tenant, what.name)
    await records.put(opened[topology.DEPLOYMENTS.name], where, _deployment(instances))
    for bucket in (topology.KEYS, topology.DEPLOYMENTS):
        await buckets.write_complete(bus, bucket, 1)


def instance_name(number: int) -> str:
    """Return the name of the instance ``number``, e.g. ``i-aaaaab``."""
    digits = []
    for _ in range(6):
        number, rest = divmod(number, len(_INSTANCE_DIGITS))
        digits.append(_INSTANCE_DIGITS[rest])
    return "i-" + "".join(reversed(digits))


def _record(instance: str, url: str) -> Record:
    return Record(
        incarnation=f"bench-{instance}",
        term=1,
        generation=1,
        state=READY,
        url=url,
        engine_key=f"ek-{instance}",
        max_running=MAX_RUNNING,
        max_model_len=32768,
        since=time.time(),
    )


def _deployment(instances: Iterable[str]) -> DeploymentEntry:
    return DeploymentEntry(
        task=TEXT_GENERATION,
        generations=[1],
        state="running",
        verdicts={instance: Verdict(word=SERVE) for instance in instances},
        created_at=time.time(),
        epoch=1,
    )


@contextlib.asynccontextmanager
async def router(what: Asked, nats_url: str, folder: Path) -> AsyncIterator[Process]:
    """Run the router while inside; at the end it is told to end, and killed if it does not."""
    environ = os.environ | {
        "ROUTER_NATS_URL": nats_url,
        "ROUTER_HOST": HOST,
        "ROUTER_PORT": str(what.port),
        "ROUTER_VIEWS_DIR": str(folder / "views"),
        "ROUTER_PROCESSES": str(what.processes),
        "ROUTER_ADMIN_PORT": "0",
        "ROUTER_GRACE_S": f"{GRACE_S:g}",
    }
    with (folder / "router.log").open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.router"),
            env=environ,
            cwd=Path(__file__).parents[1],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield child
    finally:
        await _end(child)


async def _end(child: Process) -> None:
    everybody = tree(child.pid) if child.returncode is None else []
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(GRACE_S + 10):
            await child.wait()
    except TimeoutError:
        for pid in everybody:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await child.wait()


async def _routed(what: Asked, child: Process, folder: Path) -> None:
    """Return when every process of the router knows the model; ``UnfitError`` when it ends."""
    deadline = time.monotonic() + PATIENCE_S
    headers = {"Authorization": f"Bearer {what.key}", "Connection": "close"}
    async with aiohttp.ClientSession(f"http://{HOST}:{what.port}", headers=headers) as http:
        left, why = _CONNECTIONS_PER_PROCESS * max(1, what.processes), ""
        while left or (why := await _unanswered(http, what.model)):
            if child.returncode is not None:
                raise UnfitError(_ended(child, folder))
            if time.monotonic() > deadline:
                raise UnfitError(f"not ready within {PATIENCE_S:g} s: {why or 'no view'}")
            if left and await _knows(http, what.model):
                left -= 1
            else:
                _note_pids(what, child)
                await asyncio.sleep(0.02)


async def _knows(http: aiohttp.ClientSession, model: str) -> bool:
    try:
        async with http.get("/ready") as ready, http.get("/v1/models") as models:
            return ready.status == 200 and model.encode() in await models.read()
    except (aiohttp.ClientError, OSError):
        return False


async def _unanswered(http: aiohttp.ClientSession, model: str) -> str:
    """Send one request; return what is in its way, nothing when it came to an engine."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    try:
        async with http.post("/v1/chat/completions", json=body) as answer:
            text = await answer.text()
    except (aiohttp.ClientError, OSError) as exc:
        return f"{type(exc).__name__} {exc}"
    return f"{answer.status} {text[:300]}" if answer.status in _NOT_ROUTED else ""


def _ended(child: Process, folder: Path) -> str:
    tail = (folder / "router.log").read_text(errors="replace")[-2000:]
    return f"the router ended with {child.returncode}:\n{tail}"


async def serve(what: Asked) -> None:
    """Serve until cancelled; ``UnfitError`` when the router does not start, or ends by itself."""
    with tempfile.TemporaryDirectory(prefix="caravan-router-") as name:
        folder = Path(name)
        async with NatsServer(folder / "nats") as nats, Bus(nats.url, name="bench") as bus:
            await bus.established(PATIENCE_S)
            await announce(bus, what)
            async with router(what, nats.url, folder) as child:
                _note_pids(what, child)  # before it answers: who waits for answers reads them
                await _routed(what, child, folder)
                _tell(what, child)
                await child.wait()
                raise UnfitError(_ended(child, folder))


def _note_pids(what: Asked, child: Process) -> list[int]:
    """Write the pids of the router's processes, parents first, where they were asked for."""
    pids = tree(child.pid)
    if what.pids_file is not None:
        new = what.pids_file.with_name(f"{what.pids_file.name}.new")
        new.write_text("".join(f"{pid}\n" for pid in pids))
        new.replace(what.pids_file)
    return pids


def _tell(what: Asked, child: Process) -> None:
    pids = _note_pids(what, child)
    sys.stdout.write(
        f"router ready: http://{HOST}:{what.port}/v1 serves {what.model} from "
        f"{len(what.engines)} engines; pids {' '.join(map(str, pids))}\n"
    )
    sys.stdout.flush()


async def until_told(serving: Coroutine[Any, Any, None]) -> None:
    """Run ``serving`` until SIGTERM or SIGINT, which cancel it, or until it ends or fails."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    task, waiting = asyncio.create_task(serving), asyncio.create_task(told.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if told.is_set():
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def raise_file_limit() -> None:
    """Let this process and its children open as many files as they may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    try:
        what = asked(arguments)
    except UnfitError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    if what is None:
        sys.stdout.write(f"{keys.mint(secrets.randbits(256))}\n")
        return 0
    logs.configure("bench", level="warning")
    raise_file_limit()
    try:
        asyncio.run(until_told(serve(what)))
    except (UnfitError, Refusal) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
