"""What the routes of one fake engine share."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from caravan.testing.engine.flags import Options
from caravan.testing.engine.load import Load
from caravan.testing.engine.model import Model
from caravan.testing.engine.plan import Plan
from caravan.testing.engine.slots import Slots


class State:
    """One engine: what it was told, what runs, what it has counted."""

    def __init__(self, options: Options, model: Model, plan: Plan) -> None:
        self.options, self.model, self.plan = options, model, plan
        self.slots = Slots(options.max_running_requests, options.max_queued_requests)
        self.load = Load(options, self.slots)
        self.up = False
        """Set when it is ready, cleared when it is asked to end."""
        self.idle = asyncio.Event()
        """No request for an answer is open."""
        self.idle.set()
        self._aborts: dict[str, asyncio.Event] = {}

    @contextmanager
    def open_request(self, rid: str | None) -> Iterator[tuple[str, asyncio.Event]]:
        """Hold one request open; gives its id and the event of its abortion."""
        rid, aborted = rid or uuid.uuid4().hex, asyncio.Event()
        self._aborts[rid] = aborted
        self.idle.clear()
        try:
            yield rid, aborted
        finally:
            self._aborts.pop(rid, None)
            if not self._aborts:
                self.idle.set()

    def abort(self, rid: str) -> None:
        """End the request ``rid``, if there is one."""
        if aborted := self._aborts.get(rid):
            aborted.set()
