"""What a view knows: a bucket's entries, and how far a stream may be believed. No I/O."""

import enum
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")

Mark = tuple[int, int]
"""The revision of a message and the time (ns) that the server gave it."""


class Missing(enum.Enum):
    """When a stream that was made anew, or has lost something, is believed about its losses."""

    OWNER = "when the owner says in `_complete` that it has compared the whole bucket"
    CALLER = "never; the caller prunes what it knows to be gone"
    STREAM = "at once: what the stream does not name is not there"


class Table(Generic[V]):
    """A bucket's entries, fed with replays and changes.

    ``begin`` → ``put``, ``remove``, ``blank``, ``complete`` … → ``end`` → the same as changes …,
    and again at the next replay. A replay may break off at any point: ``begin`` anew.
    ``changed`` is called once for each entry that is another than before, in the stream's order;
    for those that are swept, at the end of a replay, when ``created`` is that of the new stream.

    A replay shows that the stream has lost something when it is another stream, ends earlier than
    it did, has an older message than was seen, or does not name an entry (a deletion leaves a
    mark). Then only what is newer by the server's clock is taken; the rest is ``held`` until it
    may be believed.
    """

    def __init__(self, missing: Missing, changed: Callable[[str, V | None], None]) -> None:
        self.missing = missing
        self.entries: dict[str, V] = {}
        self.marks: dict[str, Mark] = {}
        """Of the newest message of each key, deletions included."""
        self.created = ""
        """When the stream was made that ``sequence`` counts in."""
        self.sequence = 0
        """Everything up to here has been seen."""
        self.stamp = 0
        """The newest time that the server has given a message, ns."""
        self.held: dict[str, tuple[V | None, Mark]] = {}
        """What the stream says of a key, or that it says nothing, where ours is newer."""
        self.confirmed = False
        """Whether the entries are those of the stream, as of ``sequence``."""
        self.epoch = 0
        """Of the owner's newest word."""
        self.doubted = False
        """Whether the newest replay showed that the stream had lost something."""
        self._changed = changed
        self._owner_said = ("", 0)
        self._floor = 0  # the owner's word counts only when it is newer than this
        self._stream, self._high = "", 0  # the stream that was read last, and how far
        self._back = False  # since the last whole replay, the stream has lost something
        self._named: set[str] | None = None  # in the replay that is going on
        self._ahead: dict[str, int] = {}  # what look-ups found that the stream has not told yet

    @property
    def replaying(self) -> bool:
        """Whether a replay has begun and not ended."""
        return self._named is not None

    @property
    def kept(self) -> set[str]:
        """Entries that the stream does not have, or not as they are here."""
        return self.held.keys() & self.entries.keys()

    def start_from(self, created: str, sequence: int, stamp: int, epoch: int) -> None:
        """Start with what another process has seen; its entries and marks are set beside this."""
        self.created, self.sequence, self.stamp, self.epoch = created, sequence, stamp, epoch
        self._stream, self._high = created, sequence

    def begin(self, created: str, last: int) -> None:
        """Begin a replay of the stream made at ``created``, which ends at ``last`` now."""
        self._named, self._last, self._stamp_before = set(), last, self.stamp
        self._ahead.clear()
        if self._stream and created != self._stream:
            self._doubt(floor=0)
            self._high = 0
        elif last < self._high:
            self._doubt(floor=self.stamp)
        self._stream = created

    def put(self, key: str, value: V, revision: int, stamp: int) -> None:
        """Take an entry as the stream has it."""
        self._take(key, value, (revision, stamp))

    def remove(self, key: str, revision: int, stamp: int) -> None:
        """Take an entry's deletion or expiry."""
        self._take(key, None, (revision, stamp))

    def blank(self, key: str, revision: int, stamp: int) -> None:
        """Take an entry that this version cannot read: the last good value stays."""
        self._note(key, (revision, stamp))
        self.held.pop(key, None)

    def complete(self, created: str, epoch: int, revision: int, stamp: int) -> None:
        """Take the owner's word that it has compared the whole stream made at ``created``."""
        self._note("", (revision, stamp))
        self._owner_said, self.epoch = (created, stamp), epoch
        if not self.replaying:
            self._confirm()

    def end(self) -> None:
        """End the replay: what it did not name is gone, as far as that may be believed."""
        named = self._named or set()
        unnamed = self.entries.keys() - named
        if self.missing is not Missing.STREAM and unnamed - self.held.keys():
            self._doubt(floor=self._stamp_before)
        self.held |= dict.fromkeys(unnamed, (None, (0, 0)))
        self.marks = {k: m for k, m in self.marks.items() if k in named or k in self.entries}
        self.created, self.sequence, self._high = self._stream, self._last, self._last
        self.doubted, self._back, self._named = self._back, False, None
        self._confirm()

    def prune(self, keep: Callable[[str], bool]) -> list[str]:
        """Drop the kept entries that ``keep`` does not want; return their keys."""
        gone = sorted(key for key in self.kept if not keep(key))
        for key in gone:
            self._set(key, None, self.held.pop(key)[1])
        return gone

    def answer(self, key: str, value: V | None, revision: int, stamp: int) -> None:
        """Take what a look-up found, unless the stream has told more by now."""
        if not self.replaying and revision > self.sequence:
            self._ahead[key] = revision
            self.held.pop(key, None)
            self._set(key, value, (revision, stamp))

    def _take(self, key: str, value: V | None, mark: Mark) -> None:
        known = self.marks.get(key, (0, 0))
        self._note(key, mark)
        if mark == known:
            self.held.pop(key, None)
        elif self._newer(key, mark, known):
            self.held.pop(key, None)
            self._set(key, value, mark)
        elif self.replaying:
            self.held[key] = (value, mark)

    def _note(self, key: str, mark: Mark) -> None:
        """Note that the stream names ``key``, and how far it has been read."""
        revision, stamp = mark
        self._high, self.stamp = max(self._high, revision), max(self.stamp, stamp)
        if self._named is None:
            self.sequence = max(self.sequence, revision)
            return
        self._named.add(key)
        self._last = max(self._last, revision)

    def _newer(self, key: str, mark: Mark, known: Mark) -> bool:
        """Tell whether a message is newer than what is known of its key."""
        if self.missing is Missing.STREAM:
            return True
        if not self.replaying:
            return mark[0] > self._ahead.get(key, 0)
        if not self._back and mark[0] <= known[0]:
            self._doubt(floor=self._stamp_before)
        return mark[1] > known[1] if self._back else mark[0] > known[0]

    def _doubt(self, floor: int) -> None:
        """The stream is another one or has lost something: it must be confirmed anew."""
        if not self._back:
            self._floor = floor
        self._back, self.confirmed = True, False

    def _confirm(self) -> None:
        """Believe the stream when whoever may say so has said so."""
        created, stamp = self._owner_said
        said = created == self.created and stamp > self._floor
        if self.missing is Missing.OWNER and not said:
            return
        self.confirmed = True
        if self.missing is not Missing.CALLER:
            held, self.held = self.held, {}
            for key, (value, mark) in sorted(held.items()):
                self._set(key, value, mark)

    def _set(self, key: str, value: V | None, mark: Mark) -> None:
        if value is None and (mark == (0, 0) or self.missing is Missing.STREAM):
            self.marks.pop(key, None)
        else:
            self.marks[key] = mark
        if self.entries.get(key) == value:
            return
        if value is None:
            del self.entries[key]
        else:
            self.entries[key] = value
        self._changed(key, value)
