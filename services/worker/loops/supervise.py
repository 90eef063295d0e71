"""Runs one life: what is seen goes into ``core/lifecycle.py``, what it says is done.

One queue holds everything that was seen, so that the life changes in one place and in one order.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine

import structlog
from msgspec.structs import replace

from caravan.contracts.errors import Refusal
from caravan.contracts.instances import DRAINING, READY, Progress
from services.worker.core import lifecycle
from services.worker.core.announcement import Facts
from services.worker.core.lifecycle import Life, Seen
from services.worker.core.ports import Engine, NoAnswerError

log = structlog.get_logger()

Prepare = Callable[[], Awaitable[tuple[Engine, Facts]]]


class Supervisor:
    """The one life of a worker.

    ``run`` comes once; it ends when the life has its exit status, and leaves no engine behind,
    however it ends. ``see`` may be called at any time. Readers find the newest values in ``life``,
    ``facts``, ``progress`` and ``since``; a bell rings when there is something new to announce.
    """

    def __init__(self, life: Life, facts: Facts) -> None:
        self.life = life
        self.facts = facts
        self.progress: Progress | None = None
        self.since = time.time()
        """When the state began, seconds since the epoch."""
        self._seen: asyncio.Queue[Seen] = asyncio.Queue()
        self._bells: list[asyncio.Event] = []
        self._engine: Engine | None = None

    def see(self, seen: Seen) -> None:
        """Take in what was seen; it is acted on in order."""
        self._seen.put_nowait(seen)

    def bell(self) -> asyncio.Event:
        """Return an event that is set at each change; its owner clears it."""
        bell = asyncio.Event()
        self._bells.append(bell)
        return bell

    def answered_at(self) -> float:
        """Return when the engine last gave a token, seconds since the epoch; 0.0 never."""
        at = self.life.answered_at
        return 0.0 if at is None else time.time() - (time.monotonic() - at)

    def last_lines(self) -> list[str]:
        """Return the end of what the engine printed."""
        return [] if self._engine is None else self._engine.last_lines()

    async def run(self, prepare: Prepare) -> Life:
        """Live, from the weights to the exit status; ``prepare`` makes the engine to be started."""
        try:
            async with asyncio.TaskGroup() as tasks:
                begun = [tasks.create_task(self._prepare(prepare)), tasks.create_task(self._tick())]
                while self.life.exit is None:
                    begun += map(tasks.create_task, self._take(await self._seen.get()))
                for task in begun:
                    task.cancel()
        finally:
            if self._engine is not None:
                self._engine.kill()
        return self.life

    def _take(self, seen: Seen) -> list[Coroutine[None, None, None]]:
        """Change the life by ``seen`` and return the work that begins now."""
        before = self.life
        self.life, actions = lifecycle.step(before, seen)
        if self.life.state != before.state:
            self.since = time.time()
        if _announced(self.life) != _announced(before):
            reason = self.life.reason or None
            log.info("instance.changed", state=self.life.state, reason=reason)
            for bell in self._bells:
                bell.set()
        return [work for action in actions if (work := self._act(action)) is not None]

    def _act(self, action: str) -> Coroutine[None, None, None] | None:
        assert self._engine is not None, "nothing is done to an engine before there is one"
        match action:
            case lifecycle.START:
                return self._start(self._engine)
            case lifecycle.PROBE:
                return self._probe(self._engine)
            case lifecycle.STOP:
                return self._engine.stop(self.life.patience_s)
            case _:
                self._engine.kill()
                return None

    async def _prepare(self, prepare: Prepare) -> None:
        try:
            self._engine, self.facts = await prepare()
        except Refusal as exc:
            self.see(lifecycle.Refused(time.monotonic(), exc.problem))
        else:
            self.see(lifecycle.Fetched(time.monotonic()))

    async def _start(self, engine: Engine) -> None:
        try:
            engine.start()
        except Refusal as exc:
            self.see(lifecycle.Refused(time.monotonic(), exc.problem))
            return
        words = await engine.exited()
        self.see(lifecycle.Exited(time.monotonic(), words))

    async def _probe(self, engine: Engine) -> None:
        try:
            model = await engine.answer()
        except NoAnswerError as exc:
            log.debug("engine.no_answer", why=str(exc))
            self.see(lifecycle.Missed(time.monotonic()))
            return
        self.facts = replace(
            self.facts, max_model_len=model.max_model_len, max_running=model.max_running
        )
        self.see(lifecycle.Answered(time.monotonic()))

    async def _tick(self) -> None:
        bell = self.bell()
        while True:
            load = None
            if self._engine is not None and self.life.state in {READY, DRAINING}:
                load = await self._engine.load()
            self.see(lifecycle.Ticked(time.monotonic(), load))
            bell.clear()
            await rung(bell, lifecycle.pause_s(self.life))


async def rung(bell: asyncio.Event, patience_s: float) -> None:
    """Wait until the bell rings, at most ``patience_s``."""
    try:
        async with asyncio.timeout(patience_s):
            await bell.wait()
    except TimeoutError:
        return


def _announced(life: Life) -> tuple[str, str, bool]:
    return life.state, life.reason, life.superseded
