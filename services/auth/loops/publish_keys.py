"""Keeps the bucket ``keys`` equal to the rows."""

import asyncio
import time
from collections.abc import Callable

import structlog
from msgspec import Struct
from prometheus_client import Gauge
from sqlmodel import Session

from caravan.contracts.errors import UnavailableError
from caravan.contracts.keys import KeyEntry
from caravan.contracts.topology import KEYS
from caravan.kit.buckets import bucket_created, open_bucket, write_complete_for
from caravan.kit.bus import Bus
from caravan.kit.publish import behind, epoch_in, publish_all
from caravan.kit.records import delete, put
from caravan.kit.sql import Database
from services.auth.core import hold
from services.auth.core.keys import entry
from services.auth.core.rows import Rows, StoredKey

log = structlog.get_logger()

COMPARE_EVERY_S = 3600.0
RETRY_S = 1.0


ON_HOLD = Gauge("caravan_auth_on_hold", "1 while auth changes nothing")
EPOCH = Gauge("caravan_auth_epoch", "Number of auth's newest event")
BUCKET_BEHIND = Gauge("caravan_auth_bucket_behind", "1 while routers do not know the newest keys")


class _Seen(Struct, frozen=True):
    """The rows at one moment."""

    epoch: int
    held: str
    keys: list[StoredKey]


class KeyPublisher:
    """The only writer of the bucket ``keys``.

    ``run`` is a task for life: it compares the whole bucket at start, at each new connection and
    hourly, and writes single keys as they are announced. It writes nothing while auth is on hold.
    What it could not write it writes when NATS and the database are back.
    """

    def __init__(
        self,
        db: Database,
        bus: Bus,
        rows: Callable[[Session], Rows],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._db, self._bus, self._rows, self._now = db, bus, rows, now
        self.compared = asyncio.Event()
        """Set once it is known whether the database is behind the bucket."""
        self._wake = asyncio.Event()
        self._done = asyncio.Condition()
        self._asked = self._finished = 0
        self._whole = True
        self._keys: set[str] = set()
        self._stream = ""
        self._told = ""

    async def announce(self, *keys: str, whole: bool = False, patience_s: float) -> bool:
        """Have the bucket say what the rows say of ``keys`` now; return whether it does already.

        It will, also when this returns False after ``patience_s``.
        """
        self._keys.update(keys)
        self._whole = self._whole or whole
        self._asked += 1
        ticket = self._asked
        self._wake.set()
        try:
            async with asyncio.timeout(patience_s), self._done:
                await self._done.wait_for(lambda: self._finished >= ticket)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Write for ever."""
        end = self._bus.on_reconnect(self._compare_soon)
        try:
            while True:
                self._wake.clear()
                done = await self._round()
                try:
                    wait_s = COMPARE_EVERY_S if done else RETRY_S
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    self._whole = True
        finally:
            end()

    def _compare_soon(self) -> None:
        self._whole = True
        self._wake.set()

    async def _round(self) -> bool:
        """Write what is due; return whether that worked."""
        asked, whole, keys = self._asked, self._whole, self._keys
        self._whole, self._keys = False, set()
        try:
            await (self._compare() if whole else self._write(keys))
        except UnavailableError as exc:
            self._whole = True
            self._tell(exc.problem.message)
            return False
        self._tell("")
        async with self._done:
            self._finished = asked
            self._done.notify_all()
        return True

    async def _compare(self) -> None:
        epoch = await epoch_in(self._bus, KEYS)
        seen = await self._db.run(lambda session: self._see(session, epoch))
        self.compared.set()
        if seen.held:
            log.warning("auth.on_hold", reason=seen.held)
            return
        self._stream = await bucket_created(self._bus, KEYS)
        changed = await publish_all(self._bus, KEYS, self._entries(seen), seen.epoch)
        log.info("keys.compared", keys=len(seen.keys), changed=len(changed), epoch=seen.epoch)

    def _see(self, session: Session, epoch: int) -> _Seen:
        rows = self._rows(session)
        hold.notice(rows, behind(rows.newest(), epoch), epoch)
        return _seen(rows, list(rows.all_keys()))

    def _entries(self, seen: _Seen) -> dict[str, KeyEntry]:
        now = self._now()
        found = {key.digest: entry(key, now) for key in seen.keys}
        return {digest: value for digest, value in found.items() if value is not None}

    async def _write(self, keys: set[str]) -> None:
        seen = await self._db.run(lambda session: self._see_some(session, keys))
        if seen.held:
            return
        kv = await open_bucket(self._bus, KEYS)
        if await bucket_created(self._bus, KEYS) != self._stream:
            await self._compare()
            return
        # The epoch first: whatever the bucket shows, it never shows more than the epoch admits.
        await write_complete_for(self._bus, KEYS, self._stream, seen.epoch)
        for key in seen.keys:
            value = entry(key, self._now())
            if value is None:
                await delete(kv, key.digest)
            else:
                await put(kv, key.digest, value)

    def _see_some(self, session: Session, keys: set[str]) -> _Seen:
        rows = self._rows(session)
        found = [key for key in map(rows.key, sorted(keys)) if key is not None]
        return _seen(rows, found)

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._told:
            log.warning("keys.wait", reason=trouble)
        self._told = trouble
        BUCKET_BEHIND.set(bool(trouble))


def _seen(rows: Rows, keys: list[StoredKey]) -> _Seen:
    seen = _Seen(rows.newest(), hold.reason(rows), keys)
    ON_HOLD.set(bool(seen.held))
    EPOCH.set(seen.epoch)
    return seen
