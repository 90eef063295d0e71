"""Instances as processes of this machine: what a platform without Nomad runs on."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from caravan.contracts.instances import Spec
from services.scheduler.adapters.bell import Bell
from services.scheduler.adapters.process_folder import Folder, replace_file
from services.scheduler.adapters.process_instance import Instance
from services.scheduler.adapters.process_life import Pace
from services.scheduler.adapters.process_log import Log
from services.scheduler.adapters.process_spawn import base_environment
from services.scheduler.core.cluster import Lines, Mark, Observed, Ref
from services.scheduler.core.errors import (
    ClusterRefusedError,
    ClusterUnavailableError,
    InstanceNotFoundError,
)

log = structlog.get_logger()
LOOK_AT_LOGS_S = 30.0


class ProcessCluster:
    """``Cluster`` on this machine: each worker in its own session, with a folder of its own.

    ``run`` starts, restarts and ends; the other verbs write down what is wanted and return. A
    worker needs no scheduler to live: the next one reads the folders and adopts what runs, a stop
    that was asked for included. Everything waits for the kernel to tell of an end; nothing polls.
    """

    def __init__(  # noqa: PLR0913 - settings, each with a default
        self,
        folder: Path,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        pace: Pace | None = None,
        log_bytes: int = 16 * 2**20,
        base: Mapping[str, str] | None = None,
    ) -> None:
        """``command`` starts a worker; it is told by ``environment`` and a clean part of ``base``.

        ``base`` is by default this process's environment. ``log_bytes`` bounds each of the two
        parts of an instance's log.
        """
        self._folder = folder
        self._command = tuple(command)
        inherited = base_environment(os.environ if base is None else base)
        self._environment = {**inherited, **environment}
        self._pace = pace or Pace()
        self._log_bytes = log_bytes
        self._bell = Bell()
        self._instances: dict[Ref, Instance] | None = None
        self._arrived: asyncio.Queue[Instance] = asyncio.Queue()

    async def run(self) -> None:
        """Keep every instance, for ever. When cancelled, workers live on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._bound_logs())
            self._arrived = asyncio.Queue()
            with self._usable():
                for instance in self._known().values():
                    self._arrived.put_nowait(instance)
            while True:
                tasks.create_task(self._keep(await self._arrived.get()))

    async def _keep(self, instance: Instance) -> None:
        while not instance.ended:
            try:
                await instance.keep()
            except OSError as exc:
                # No descriptor, no memory: this instance waits, and the others go on.
                log.warning("instance.not_kept", instance=instance.ref.instance, error=str(exc))
                await asyncio.sleep(self._pace.first_s)

    async def observed(self) -> Sequence[Observed]:
        with self._usable():
            return [instance.observed() for instance in self._known().values()]

    async def start(self, spec: Spec) -> None:
        with self._usable():
            if Ref(spec.tenant, spec.name, spec.instance) not in self._known():
                self._add(spec)

    async def stop(self, ref: Ref) -> None:
        with self._usable():
            instance = self._known().get(ref)
            if instance is not None:
                instance.stop()

    async def forget(self, ref: Ref) -> None:
        with self._usable():
            instance = self._known().get(ref)
            if instance is None:
                return
            if not instance.ended:
                raise ClusterRefusedError(f"{ref.instance} has not ended: stop it and wait")
            instance.folder.remove()
            del self._known()[ref]
        self._bell.ring()

    async def logs(self, ref: Ref, cursor: str) -> Lines:
        with self._usable():
            instance = self._known().get(ref)
            if instance is None:
                raise InstanceNotFoundError(f"no instance {ref.instance} is known here")
            running = instance.observed().state in {"running", "stopping"}
            return await asyncio.to_thread(instance.printed.read, cursor, ended=not running)

    async def mark(self) -> Mark | None:
        with self._usable():
            return await asyncio.to_thread(_read_mark, self._folder / "mark.json")

    async def remember(self, mark: Mark) -> None:
        with self._usable():
            self._folder.mkdir(parents=True, exist_ok=True)
            data = msgspec.json.encode(mark)
            await asyncio.to_thread(replace_file, self._folder / "mark.json", data, durable=True)

    def changes(self) -> AsyncIterator[None]:
        return self._bell.rings()

    def _known(self) -> dict[Ref, Instance]:
        if self._instances is None:
            self._instances = {}
            for path in sorted(self._folder.glob("*/spec.json")):
                spec = Folder(path.parent).spec()
                if spec is not None and spec.instance == path.parent.name:
                    instance = self._instance(spec)
                    self._instances[instance.ref] = instance
        return self._instances

    def _add(self, spec: Spec) -> None:
        folder = Folder(self._folder / spec.instance)
        there = folder.spec()
        if there is not None:
            raise ClusterRefusedError(
                f"{spec.instance} is an instance of {there.tenant}/{there.name} already: "
                "give the new one another name"
            )
        folder.make(spec)
        instance = self._instance(spec)
        self._known()[instance.ref] = instance
        self._arrived.put_nowait(instance)
        self._bell.ring()

    def _instance(self, spec: Spec) -> Instance:
        folder = Folder(self._folder / spec.instance)
        printed = Log(folder.path, self._log_bytes)
        return Instance(
            folder,
            spec,
            command=self._command,
            environment=self._environment,
            pace=self._pace,
            printed=printed,
            changed=self._bell.ring,
        )

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AT_LOGS_S)
            for instance in list((self._instances or {}).values()):
                with self._usable():
                    await asyncio.to_thread(instance.printed.rotate)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Translate what the file system says."""
        try:
            yield
        except OSError as exc:
            raise ClusterUnavailableError(
                f"the folder of instances {self._folder} cannot be used ({exc.strerror}): "
                "see that it can be written and has room"
            ) from exc


def _read_mark(path: Path) -> Mark | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as exc:
        raise ClusterRefusedError(
            f"{path} is not readable ({exc}): remove it to start on a new cluster"
        ) from exc
