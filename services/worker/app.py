"""Where the parts of a worker meet."""

import asyncio
import os
import secrets
import shlex
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from msgspec.structs import replace

from caravan.contracts.errors import InvalidRequestError, Problem, Refusal
from caravan.contracts.instances import Progress, Spec
from caravan.contracts.names import path
from caravan.kit.bus import Bus
from services.worker.adapters import alias, folder, ports
from services.worker.adapters.engine import SGLang
from services.worker.adapters.process import Launch
from services.worker.adapters.registry import BusRegistry
from services.worker.adapters.sources import Sources, check_model
from services.worker.core import environment, flags, incarnation, lifecycle
from services.worker.core.announcement import Facts
from services.worker.core.errors import WorkerEndedError
from services.worker.core.lifecycle import Life, Limits
from services.worker.core.spec import check_task, read_spec
from services.worker.loops.announce import Announcer
from services.worker.loops.supervise import Supervisor
from services.worker.settings import Settings

log = structlog.get_logger()


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve one instance until its end; a ``Refusal`` says how it ended if nobody asked for it."""
    with folder.held(settings.folder):
        try:
            spec = read_spec(settings.spec)
            life, last_lines = await _live(settings, spec, stopping)
        except Refusal as exc:
            _write_exit(settings, exc.problem, [])
            raise
        problem = Problem(code=life.code, message=life.reason)
        _write_exit(settings, problem, last_lines)
        if life.exit:
            raise WorkerEndedError(problem, life.exit)


async def _live(settings: Settings, spec: Spec, stopping: asyncio.Event) -> tuple[Life, list[str]]:
    """Return the life at its end, and what its engine printed last."""
    log_of = {"deployment": path(spec.tenant, spec.name), "instance": spec.instance}
    structlog.contextvars.bind_contextvars(**log_of)
    facts = Facts(
        incarnation=incarnation.incarnation(int(time.time() * 1000), secrets.randbits(74)),
        spec=spec,
        allocation=settings.allocation,
    )
    supervisor = Supervisor(Life(limits=_limits(settings, spec)), facts)
    _obey_signals(supervisor, stopping)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(_bus(settings, spec))
        announcer = Announcer(supervisor, BusRegistry(bus, spec))
        bus.on_reconnect(announcer.wake)
        async with asyncio.TaskGroup() as tasks:
            announcing = tasks.create_task(announcer.run())
            life = await supervisor.run(lambda: _prepare(settings, supervisor, stack))
            announcing.cancel()
        await announcer.farewell()
    return life, supervisor.last_lines()


async def _prepare(
    settings: Settings, supervisor: Supervisor, stack: AsyncExitStack
) -> tuple[SGLang, Facts]:
    """Return the engine, ready to be started, and what is known with it; or refuse."""
    spec = supervisor.facts.spec
    check_task(spec.task)
    flags.check(spec.engine_args)
    flags.check_kind(settings.engine_kind)
    flags.check_host(settings.host)
    command = _words(settings.engine_command)
    ports.take(settings.host, settings.port)  # before a download, not after it
    model, architectures = await _model(settings, supervisor)
    place = flags.Place(
        host=settings.host,
        port=ports.take(settings.host, settings.port),
        key=secrets.token_hex(32),
    )
    name = path(spec.tenant, spec.name)
    works_in = stack.enter_context(alias.named(model, name, settings.folder))
    arguments = flags.arguments(spec, settings.engine_kind, name, architectures, place)
    launch = Launch(
        command=[*command, *arguments],
        environ=environment.for_engine(os.environ),
        secret=place.key,
        folder=works_in,
    )
    engine = SGLang(launch, place, name, spec.task)
    stack.push_async_callback(engine.close)
    return engine, replace(supervisor.facts, url=place.url, engine_key=place.key)


async def _model(settings: Settings, supervisor: Supervisor) -> tuple[Path, list[str]]:
    """Return the model's folder and its architectures."""

    def progress(progress: Progress) -> None:
        supervisor.progress = progress

    spec = supervisor.facts.spec
    token = settings.hub_token.reveal() if settings.hub_token else None
    sources = Sources(settings.cache_dir.expanduser(), environment.for_download(os.environ, token))
    model = await sources.fetch(spec.source, progress)
    supervisor.progress = None
    return model, check_model(spec.task, spec.source, model).architectures or []


def _limits(settings: Settings, spec: Spec) -> Limits:
    return Limits(
        drain_s=spec.drain_s,
        stall_s=spec.stall_s,
        load_s=settings.load_s,
        probe_s=settings.probe_s,
        grace_s=settings.grace_s,
    )


def _bus(settings: Settings, spec: Spec) -> Bus:
    return Bus(
        settings.nats_url,
        name=f"worker {spec.instance}",
        seed=settings.nats_seed,
        inbox_prefix=settings.nats_inbox_prefix,
    )


def _obey_signals(supervisor: Supervisor, stopping: asyncio.Event) -> None:
    """Have every SIGTERM seen: the second one means something else than the first."""

    def asked() -> None:
        stopping.set()
        supervisor.see(lifecycle.Asked(time.monotonic()))

    if stopping.is_set():
        asked()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked)


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as exc:
        words, why = [], f": {exc}"
    else:
        why = ""
    if not words:
        message = f"WORKER_ENGINE_COMMAND names no program{why}; give the words that start SGLang"
        raise InvalidRequestError(message, param="WORKER_ENGINE_COMMAND")
    return words


def _write_exit(settings: Settings, problem: Problem, last_lines: list[str]) -> None:
    folder.write_exit(
        settings.folder,
        folder.Exit(
            reason=problem.message, code=problem.code, last_lines=last_lines, at=time.time()
        ),
    )
