"""One instance that runs as a process: kept alive, or brought to its end."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
import structlog

from caravan.contracts.instances import Spec
from caravan.kit.process import Identity, alive, end, ended
from services.scheduler.adapters import process_life
from services.scheduler.adapters.process_folder import Folder
from services.scheduler.adapters.process_life import Life, Pace
from services.scheduler.adapters.process_log import Log
from services.scheduler.adapters.process_spawn import end_session, exit_status, in_words, spawn
from services.scheduler.core.cluster import Observed, Ref

log = structlog.get_logger()


class Instance:
    """``keep`` runs until it was asked to stop and nothing of it is left, over any number of lives.

    What is wanted and who runs stands in the folder before it happens, so that ``keep`` of another
    scheduler goes on from there: it adopts a worker that lives, by pid and start time.
    """

    def __init__(  # noqa: PLR0913 - one place makes it
        self,
        folder: Folder,
        spec: Spec,
        *,
        command: Sequence[str],
        environment: Mapping[str, str],
        pace: Pace,
        printed: Log,
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.ref = Ref(spec.tenant, spec.name, spec.instance)
        self.folder = folder
        self.printed = printed
        self._command = command
        self._environment = environment
        self._pace = pace
        self._changed = changed
        self._life = folder.life() or Life(since=time.time())
        self._stopping = asyncio.Event()
        if self._life.kill_at:
            self._stopping.set()

    @property
    def ended(self) -> bool:
        """Whether it was stopped and nothing of it runs."""
        return bool(self._life.kill_at) and self._life.worker is None

    def observed(self) -> Observed:
        return process_life.observed(self.ref, self._life, time.time(), self._pace)

    def stop(self) -> None:
        """Have ``keep`` end it; remembered from here on."""
        grace_s = self.spec.drain_s + self._pace.margin_s
        self._move(process_life.asked_to_stop(self._life, time.time(), grace_s))
        self._stopping.set()

    async def keep(self) -> None:
        """Return when it was stopped and nothing of it runs any more."""
        await self._look_for_its_worker()
        while not self._stopping.is_set():
            if self._life.worker is None:
                await self._pause(self._life.next_try_at - time.time())
                if not self._stopping.is_set():
                    self._begin()
            else:
                await self._until_it_ends_or_is_stopped(self._life.worker)
        if self._life.worker is not None:
            await self._end(self._life.worker)

    async def _look_for_its_worker(self) -> None:
        """Find out what became of the worker that an earlier scheduler started."""
        worker = self._life.worker
        if worker is None or alive(worker) or self._stopping.is_set():
            return
        await end_session(worker, self.folder.path)
        left = self.folder.exit()
        if left is not None and left.code:
            self._note_failure(left.reason, left.at or time.time())
        else:
            reason = "it was not running when the scheduler started"
            self._note(process_life.interrupted(self._life, reason, time.time()))

    def _begin(self) -> None:
        try:
            self.folder.clear_exit()
            self.printed.rotate()
            name = secrets.token_hex(8)
            noted = partial(self._note_start, name)
            spawn(self._command, self._told(name), self.folder.path, noted)
        except OSError as exc:
            self._note_failure(f"its worker could not be started: {exc.strerror}", time.time())
        else:
            log.info("instance.started", instance=self.ref.instance, pid=self._life.pid)

    def _told(self, name: str) -> dict[str, str]:
        return {
            **self._environment,
            "WORKER_SPEC": msgspec.json.encode(self.spec).decode(),
            "WORKER_FOLDER": str(self.folder.path),
            "WORKER_ALLOCATION": name,
        }

    async def _until_it_ends_or_is_stopped(self, worker: Identity) -> None:
        if await self._ended_first(worker):
            # Its session first: while our child is a zombie its number cannot be anyone else's.
            await end_session(worker, self.folder.path)
            status = exit_status(worker.pid)
            left = self.folder.exit()
            reason = left.reason if left else ""
            if not self._stopping.is_set():
                self._note_failure(reason or f"its worker {in_words(status)}", time.time())

    async def _ended_first(self, worker: Identity) -> bool:
        watched = asyncio.create_task(ended(worker))
        asked = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((watched, asked), return_when=asyncio.FIRST_COMPLETED)
            return watched.done()
        finally:
            watched.cancel()
            asked.cancel()
            await asyncio.gather(watched, asked, return_exceptions=True)

    async def _end(self, worker: Identity) -> None:
        patience_s = max(0.0, self._life.kill_at - time.time())
        if self._life.told:
            in_order = await _ends_by_itself(worker, patience_s)
        else:
            self._note(process_life.told(self._life))
            in_order = await end(worker, patience_s)
        await end_session(worker, self.folder.path)
        exit_status(worker.pid)
        self._note(process_life.gone(self._life, time.time()))
        log.info("instance.ended", instance=self.ref.instance, killed=not in_order)

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until it is stopped."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):  # wait_for may lose a cancellation
                await self._stopping.wait()
        except TimeoutError:
            return

    def _note_failure(self, reason: str, at: float) -> None:
        self._note(process_life.failed(self._life, reason, at, self._pace))
        log.warning(
            "instance.failed",
            instance=self.ref.instance,
            reason=reason,
            failures=self._life.failures,
            next_try_in_s=round(self._life.next_try_at - time.time(), 1),
        )

    def _note_start(self, name: str, worker: Identity) -> None:
        self._move(process_life.launched(self._life, worker, time.time(), name))

    def _note(self, life: Life) -> None:
        """Go on with ``life`` even if it cannot be written: it has happened already."""
        try:
            self._move(life)
        except OSError as exc:
            log.error("instance.not_noted", path=str(self.folder.path), error=str(exc))  # noqa: TRY400 - the path and the errno say it all
            self._life = life
            self._changed()

    def _move(self, life: Life) -> None:
        self.folder.save(life)
        self._life = life
        self._changed()


async def _ends_by_itself(worker: Identity, patience_s: float) -> bool:
    """Return whether it did; it is killed when its time is over."""
    try:
        async with asyncio.timeout(patience_s):
            await ended(worker)
    except TimeoutError:
        return await end(worker, 0.0)
    return True
