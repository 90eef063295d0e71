"""A bucket, live in memory: what every reader of a bucket uses."""

import asyncio
import random
import time
from collections.abc import Callable, ItemsView, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import nats.errors
import structlog
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from caravan.contracts import topology
from caravan.contracts.deployments import COMPLETE_KEY, Complete
from caravan.contracts.errors import UnavailableError
from caravan.contracts.reports import Position
from caravan.kit.buckets import answering, is_gone, require_connection, stream_name, subject
from caravan.kit.bus import Bus
from caravan.kit.dead import bury
from caravan.kit.disk_copy import DiskCopy
from caravan.kit.reading import Heard, Reading, reading
from caravan.kit.restart import over_a_restart
from caravan.kit.table import Missing, Table
from caravan.kit.wire import decode, decoder

V = TypeVar("V")
log = structlog.get_logger()

HEARTBEAT_S = 3.0
SAVE_EVERY_S = 1.0
RETRY_S = 1.0


class View(Generic[V]):
    """What a bucket holds, in memory, from a consumer of its own.

    ``run`` is a task of the owner's ``TaskGroup``. It reads the copy at ``disk``, if there is one,
    and follows the bucket for ever: a replay of the newest value of each key, then every change.
    Of processes that share a copy one ``writes`` it.
    It replays at the start, after each reconnect, a missed heartbeat and a lost message.

    Guaranteed: ``changed`` is called once per change, in the order of the stream, from the event
    loop, and must not block; values between two that a view did not hear in time are skipped;
    after a replay nothing is left that was deleted or had expired meanwhile. ``heard`` is told of
    every write with its revision, also when the value is the same (a lease renewed), and again in
    each replay. A stream that was made anew, or whose end was lost, deletes nothing by itself:
    entries that it does not name stay

    - with ``Missing.OWNER`` (buckets whose owner writes ``_complete``) until the owner says there
      that it has compared this very stream; until then the view is not confirmed,
    - with ``Missing.CALLER`` (``instances``) until ``prune`` lets go of them,
    - with ``Missing.STREAM`` (in memory: leases) not at all.

    An entry that cannot be read keeps its last good value; its bytes go to ``DEAD`` once.
    May repeat: nothing towards ``changed``, but a new process starts with all entries again, and
    may bury an unreadable entry a second time.
    """

    def __init__(  # noqa: PLR0913 - a bucket, and how to follow it
        self,
        bus: Bus,
        bucket: topology.Bucket,
        *,
        changed: Callable[[str, V | None], None] | None = None,
        heard: Callable[[str, V, int], None] | None = None,
        disk: Path | None = None,
        writes: bool = True,
        keys: str = ">",
        missing: Missing | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.bucket = bucket
        self.complete = False
        """Whether it ever held all of the bucket, be it from the copy on disk."""
        self.unreadable = 0
        """Entries that could not be read, since the process started."""
        self._bus = bus
        self._keys = keys
        self._heartbeat_s = heartbeat_s
        self._tell = changed or (lambda _key, _value: None)
        self._written = heard or (lambda _key, _value, _revision: None)
        self._table: Table[V] = Table(missing or _missing(bucket), self._changed)
        self._writes = writes and disk is not None
        self._disk = DiskCopy(disk, bucket.name, self._table) if disk is not None else None
        self._decode: Callable[[bytes], V] = decoder(bucket.value)
        self._confirmed = asyncio.Event()
        self._heard_at = time.monotonic()
        self._buried: set[tuple[str, int]] = set()
        self._graves: asyncio.Queue[Heard] = asyncio.Queue()
        self._dirty = asyncio.Event()

    def get(self, key: str) -> V | None:
        """Return the value of ``key``, or None; at most ``age_s`` old."""
        return self._table.entries.get(key)

    def items(self) -> ItemsView[str, V]:
        """All entries but the view's own; do not await while iterating."""
        return self._table.entries.items()

    def __len__(self) -> int:
        return len(self._table.entries)

    @property
    def confirmed(self) -> bool:
        """Whether the entries are known to be all that the bucket holds, as of ``position``."""
        return self._table.confirmed

    @property
    def kept(self) -> frozenset[str]:
        """Keys that the stream does not name and nobody has confirmed to be gone."""
        return frozenset(self._table.kept)

    @property
    def epoch(self) -> int:
        """Of the owner's newest ``_complete``; 0 none."""
        return self._table.epoch

    @property
    def age_s(self) -> float:
        """Since NATS last said that nothing is missing; if it never did, since the start."""
        return max(0.0, time.monotonic() - self._heard_at)

    @property
    def position(self) -> Position:
        """How far it has read: everything up to ``sequence`` is in the view, and obeyed."""
        return Position(
            created=self._table.created,
            sequence=self._table.sequence,
            complete=self._table.confirmed,
            age_s=round(self.age_s, 3),
        )

    async def wait_complete(self, timeout_s: float) -> bool:
        """Wait for a confirmed replay, at most ``timeout_s``; return whether it is complete.

        The copy on disk counts only when the time is up: it is for when NATS does not answer.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._confirmed.wait()
        except TimeoutError:
            return self.complete
        return True

    def prune(self, keep: Callable[[str], bool]) -> list[str]:
        """Let go of kept entries whose key ``keep`` does not want; return their keys."""
        return self._table.prune(keep)

    async def look_up(self, key: str) -> V | None:
        """Ask the bucket for ``key`` and take the answer into the view.

        Returns what the view holds when the bucket has nothing, or nothing that can be read.
        ``UnavailableError`` when NATS does not answer; one that is being restarted is waited for,
        see :func:`over_a_restart`.
        """
        found = await over_a_restart(self._bus, lambda: self._newest(key))
        if found is None:
            return self.get(key)
        try:
            value = None if is_gone(found.headers) else self._decode(found.data or b"")
        except msgspec.DecodeError:
            return self.get(key)
        if self._keys not in {">", key}:
            return value  # taken in, it would never change again
        self._table.answer(key, value, found.seq or 0, _stamp(found.headers or {}))
        return value if self._table.replaying else self.get(key)

    async def _newest(self, key: str) -> RawStreamMsg | None:
        require_connection(self._bus)
        stream, where = stream_name(self.bucket), subject(self.bucket, key)
        with answering(f"bucket {self.bucket.name}"):
            try:
                return await self._bus.js.get_msg(stream, subject=where, direct=True)
            except NotFoundError:
                return None

    async def run(self) -> None:
        """Follow the bucket until cancelled; then write the copy on disk."""
        self._load()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._bury(), name=f"bury {self.bucket.name}")
                if self._writes:
                    group.create_task(self._save_changes(), name=f"save {self.bucket.name}")
                await self._follow()
        finally:
            self._save()

    async def _follow(self) -> None:
        while True:
            await self._bus.reachable()
            began = time.monotonic()
            try:
                async with reading(self._bus, self.bucket, self._keys, self._heartbeat_s) as one:
                    await self._take(one)
                log.info("view.interrupted", bucket=self.bucket.name, why=one.why)
            except (UnavailableError, nats.errors.Error) as exc:
                log.warning("view.unavailable", bucket=self.bucket.name, error=str(exc))
            if time.monotonic() - began < 1:
                await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - no secret

    async def _take(self, one: Reading) -> None:
        """Take in a replay and what follows it, until the reading breaks off."""
        table = self._table
        table.begin(one.created, one.last)
        if one.pending == 0:
            self._replayed(one)
        async for heard in one:
            if heard.key == COMPLETE_KEY:
                self._take_complete(heard)
            else:
                self._take_entry(heard)
            if table.replaying and (heard.pending == 0 or heard.revision >= one.last):
                self._replayed(one)
            self._note(one.heard_at)

    def _replayed(self, one: Reading) -> None:
        table = self._table
        table.end()
        self._dirty.set()
        self._note(one.heard_at)
        one.heartbeat = lambda: self._note(one.heard_at)
        log.info(
            "view.replayed",
            bucket=self.bucket.name,
            entries=len(self),
            sequence=table.sequence,
            confirmed=table.confirmed,
            kept=len(table.kept),
            another_stream=table.doubted,
        )

    def _note(self, heard_at: float) -> None:
        """NATS was heard at ``heard_at``: if nothing is missing then, that is the view's age."""
        if self._table.replaying or not self._table.confirmed:
            return
        self._heard_at = heard_at
        self.complete = True
        self._confirmed.set()

    def _take_entry(self, heard: Heard) -> None:
        if heard.gone:
            self._table.remove(heard.key, heard.revision, heard.stamp)
            return
        try:
            value = self._decode(heard.data)
        except msgspec.DecodeError as exc:
            self._table.blank(heard.key, heard.revision, heard.stamp)
            self._count_unreadable(heard, exc)
            return
        self._table.put(heard.key, value, heard.revision, heard.stamp)
        self._written(heard.key, value, heard.revision)

    def _take_complete(self, heard: Heard) -> None:
        if heard.gone:
            return
        try:
            said = decode(heard.data, Complete)
        except msgspec.DecodeError as exc:
            self._count_unreadable(heard, exc)
            return
        self._table.complete(said.created, said.epoch, heard.revision, heard.stamp)
        self._dirty.set()

    def _count_unreadable(self, heard: Heard, exc: Exception) -> None:
        """Log, count and bury an entry; once, however often it is replayed."""
        if (heard.key, heard.stamp) in self._buried:
            return
        self._buried.add((heard.key, heard.stamp))
        self.unreadable += 1
        log.error("view.unreadable", bucket=self.bucket.name, key=heard.key, error=str(exc))
        self._graves.put_nowait(heard)

    async def _bury(self) -> None:
        """Keep the bytes of what could not be read, as soon as NATS takes them."""
        while True:
            heard = await self._graves.get()
            try:
                await bury(self._bus, subject(self.bucket, heard.key), heard.data)
            except UnavailableError as exc:
                log.warning("view.not_buried", bucket=self.bucket.name, error=str(exc))
                self._graves.put_nowait(heard)
                await asyncio.sleep(RETRY_S)
                await self._bus.reachable()

    def _changed(self, key: str, value: V | None) -> None:
        self._dirty.set()
        self._tell(key, value)

    def _load(self) -> None:
        """Start from the copy on disk, if there is one."""
        copy = self._disk.load(self._decode) if self._disk is not None else None
        if copy is None:
            return
        self.complete = copy.complete
        self._heard_at = time.monotonic() - max(0.0, time.time() - copy.heard_at)
        for key, value in self.items():
            self._tell(key, value)

    async def _save_changes(self) -> None:
        """Write the copy at most once a second, when something has changed."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(SAVE_EVERY_S)
            self._dirty.clear()
            await asyncio.to_thread(self._copy())

    def _save(self) -> None:
        if self._writes and self._table.created:
            self._copy()()

    def _copy(self) -> Callable[[], None]:
        """Return what writes the copy of now."""
        if self._disk is None:
            return lambda: None
        return self._disk.take(complete=self.complete, heard_at=time.time() - self.age_s)


def _missing(bucket: topology.Bucket) -> Missing:
    if bucket.memory:
        return Missing.STREAM
    return Missing.OWNER if bucket.completed else Missing.CALLER


def _stamp(headers: Mapping[str, str]) -> int:
    """Return when the server took a message that it found, ns since the epoch."""
    seconds, _, fraction = headers["Nats-Time-Stamp"].removesuffix("Z").partition(".")
    whole = datetime.fromisoformat(seconds).replace(tzinfo=UTC)
    return int(whole.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))
