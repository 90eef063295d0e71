"""What a view knows: a bucket's entries, and which of them may be believed gone. No I/O."""

import enum
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

V = TypeVar("V")

Mark = tuple[int, int]
"""Revision and server's time (ns; 0 not known) of a message: no two messages have the same."""


class Missing(enum.Enum):
    """When an entry is gone that a stream, made anew or gone back, does not name."""

    OWNER = "when the owner says in `_complete` that it has compared the whole bucket"
    CALLER = "when the caller prunes it"
    STREAM = "at once: what the stream does not name is not there"


class Table(Generic[V]):
    """A bucket's entries, fed with replays and changes.

    ``begin`` → ``put``, ``remove``, ``blank``, ``complete`` … → ``end`` → the same as changes …,
    and again at the next replay. A replay may break off at any point: ``begin`` anew.
    ``changed`` is called once for each entry that is another than before, in the stream's order;
    for those that are swept, at the end of a replay.
    """

    def __init__(self, missing: Missing, changed: Callable[[str, V | None], None]) -> None:
        self.missing = missing
        self.entries: dict[str, V] = {}
        self.marks: dict[str, Mark] = {}
        """Of the entries, as far as they are of the stream ``created``."""
        self.created = ""
        """When the stream was made that ``sequence`` counts in."""
        self.sequence = 0
        """Everything up to here has been seen."""
        self.stamp = 0
        """The newest time that the server has given a message, ns."""
        self.floor = 0
        """The owner's word counts only when it is newer than this, ns."""
        self.kept: set[str] = set()
        """Entries that the stream does not name, and that nobody has confirmed to be gone."""
        self.confirmed = False
        """Whether the entries are all of the stream's, as of ``sequence``."""
        self.epoch = 0
        """Of the owner's newest word."""
        self._changed = changed
        self._owner_said = ("", 0)
        # The replay that is going on:
        self._named: set[str] | None = None
        self._reading = ""
        self._last = 0
        self._back = False
        self._before = (0, 0)

    @property
    def replaying(self) -> bool:
        """Whether a replay has begun and not ended."""
        return self._named is not None

    @property
    def doubted(self) -> bool:
        """Whether the newest replay was of another stream, or of one that had lost its end."""
        return self._back

    def begin(self, created: str, last: int) -> None:
        """Begin a replay of the stream made at ``created``, which ends at ``last`` now."""
        self._named, self._reading, self._last = set(), created, last
        self._back, self._before = False, (self.sequence, self.stamp)
        if self.created and created != self.created:
            self._doubt(floor=0)
        elif last < self.sequence:
            self._doubt(floor=self.stamp)

    def put(self, key: str, value: V, revision: int, stamp: int = 0) -> None:
        """Take an entry as the stream has it."""
        if self._news(key, revision, stamp):
            self._set(key, value, (revision, stamp))

    def remove(self, key: str, revision: int, stamp: int = 0) -> None:
        """Take an entry's deletion or expiry."""
        if self._news(key, revision, stamp):
            self._drop(key)

    def blank(self, key: str, revision: int, stamp: int = 0) -> None:
        """Take an entry that this version cannot read: the last good value stays."""
        self._news(key, revision, stamp)

    def complete(self, created: str, epoch: int, revision: int, stamp: int) -> None:
        """Take the owner's word that it has compared the whole stream made at ``created``."""
        self._news("", revision, stamp)
        self._owner_said, self.epoch = (created, stamp), epoch
        if not self.replaying:
            self._confirm()

    def end(self) -> None:
        """End the replay: what it did not name is gone, as far as that may be believed.

        A deletion leaves a mark, so an entry that even the same stream does not name was lost.
        """
        named = self._named or set()
        unnamed = {key for key in self.entries if key not in named}
        if self.missing is Missing.STREAM:
            self._sweep(unnamed)
        elif unnamed - self.kept and not self._back:
            self._doubt(floor=self._before[1])
        self._named = None
        self.created, self.sequence = self._reading, self._last
        self.kept = unnamed & self.entries.keys()
        self._confirm()

    def prune(self, keep: Callable[[str], bool]) -> list[str]:
        """Drop the kept entries that ``keep`` does not want; return their keys."""
        gone = sorted(key for key in self.kept if not keep(key))
        self._sweep(gone)
        return gone

    def answer(self, key: str, value: V | None, revision: int) -> None:
        """Take what a look-up found, unless the stream has told more by now."""
        if self.replaying or revision <= max(self.sequence, self.marks.get(key, (0, 0))[0]):
            return
        if value is None:
            self._drop(key)
        else:
            self._set(key, value, (revision, 0))

    def _news(self, key: str, revision: int, stamp: int) -> bool:
        """Note that the stream names ``key``; tell whether the entry is newer than ours."""
        if self._named is None:
            self.sequence = max(self.sequence, revision)
            self.kept.discard(key)
        else:
            self._last = max(self._last, revision)
            if self._other(key, revision, stamp):
                self._doubt(floor=self._before[1])
            self._named.add(key)
        self.stamp = max(self.stamp, stamp)
        return revision > self.marks.get(key, (0, 0))[0]

    def _other(self, key: str, revision: int, stamp: int) -> bool:
        """Tell whether a replay shows that what was seen of ``key`` has been lost."""
        seen, at = self.marks.get(key, (0, 0))
        if seen > self._before[0]:
            return False  # looked up ahead of the stream
        return revision < seen or (revision == seen and at not in {0, stamp})

    def _doubt(self, floor: int) -> None:
        """The stream is another one or has lost its end: revisions of before mean nothing."""
        self._back, self.floor, self.confirmed = True, floor, False
        named = self._named or set()
        self.marks = {key: mark for key, mark in self.marks.items() if key in named}

    def _confirm(self) -> None:
        """Believe the stream when whoever may say so has said so."""
        created, stamp = self._owner_said
        said = created == self.created and stamp > self.floor
        if self.missing is Missing.OWNER and not said:
            return
        self.confirmed = True
        if self.missing is Missing.OWNER:
            self._sweep(self.kept)

    def _sweep(self, keys: Collection[str]) -> None:
        for key in sorted(keys):
            self._drop(key)

    def _set(self, key: str, value: V, mark: Mark) -> None:
        self.marks[key] = mark
        self.kept.discard(key)
        if key in self.entries and self.entries[key] == value:
            return
        self.entries[key] = value
        self._changed(key, value)

    def _drop(self, key: str) -> None:
        self.marks.pop(key, None)
        self.kept.discard(key)
        if self.entries.pop(key, None) is not None:
            self._changed(key, None)
