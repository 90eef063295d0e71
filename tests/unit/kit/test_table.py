"""The rules of a view, against a stream that is written, cut off, emptied and set back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.kit.table import Missing, Table

KEYS = "abc"


class Server:
    """The oracle: one stream, as a server keeps it, and what its owner knows."""

    def __init__(self):
        self.created, self.sequence, self.clock = 1, 0, 0
        self.subjects = {}
        self.rows = {}
        self.backup = None

    def write(self, key, value):
        self.sequence, self.clock = self.sequence + 1, self.clock + 1
        self.subjects[key] = (self.sequence, self.clock, value)

    def put(self, key):
        """The owner's row changes, and so does the bucket."""
        self.rows[key] = f"{key}{self.clock}"
        self.write(key, self.rows[key])

    def remove(self, key):
        self.rows.pop(key, None)
        self.write(key, None)

    def compare(self):
        """The owner makes the bucket equal to its rows, and says so."""
        for key in {*self.rows, *self.subjects} - {"_complete"}:
            there = self.subjects.get(key, (0, 0, None))[2]
            if there != self.rows.get(key):
                self.write(key, self.rows.get(key))
        self.write("_complete", str(self.created))

    def lose(self):
        """The disk is emptied; the owner's rows are not."""
        self.created, self.sequence, self.subjects, self.backup = self.created + 1, 0, {}, None

    def save(self):
        self.backup = (self.sequence, dict(self.subjects))

    def restore(self):
        """The stream goes back to its copy: what was written since is lost."""
        if self.backup is not None:
            self.sequence, self.subjects = self.backup[0], dict(self.backup[1])

    def messages(self, after=0):
        """Return the newest message of each key, in order."""
        found = [(n, at, key, value) for key, (n, at, value) in self.subjects.items() if n > after]
        return sorted(found)


class Reader:
    """A view's table, connected or not, and what it has told."""

    def __init__(self, server, missing):
        self.server, self.told = server, {}
        self.table = Table(missing, self.tell)
        self.connected = False

    def tell(self, key, value):
        assert self.told.get(key) != value, "told without a change"
        if value is None:
            del self.told[key]
        else:
            self.told[key] = value

    def take(self, message):
        number, at, key, value = message
        if key == "_complete":
            self.table.complete(value, 0, number, at)
        elif value is None:
            self.table.remove(key, number, at)
        else:
            self.table.put(key, value, number, at)

    def connect(self):
        self.table.begin(str(self.server.created), self.server.sequence)
        for message in self.server.messages():
            self.take(message)
        self.table.end()
        self.connected = True

    def break_off(self):
        """A replay whose connection is lost after its first message."""
        self.table.begin(str(self.server.created), self.server.sequence)
        for message in self.server.messages()[:1]:
            self.take(message)
        self.connected = False

    def hear(self):
        if self.connected:
            for message in self.server.messages(after=self.table.sequence):
                self.take(message)


LARGE = ["compare", "lose", "save", "restore", "connect", "break", "leave"]
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "remove"]), st.sampled_from(KEYS)),
        st.tuples(st.sampled_from(LARGE)),
    ),
    max_size=40,
)


def live(server):
    return {
        key: value
        for key, (_, _, value) in server.subjects.items()
        if value is not None and key != "_complete"
    }


def play(steps, missing):
    """Play ``steps``; yield the reader after each, having heard all that it can."""
    server = Server()
    reader = Reader(server, missing)
    for name, *arguments in steps:
        if name in {"lose", "restore", "leave"}:
            reader.connected = False  # a server that restarts cuts everybody off
        if name == "connect":
            reader.connect()
        elif name == "break":
            reader.break_off()
        elif name != "leave":
            getattr(server, name)(*arguments)
        reader.hear()
        yield server, reader


@settings(max_examples=400, deadline=None)
@given(steps)
def test_what_was_told_is_what_the_view_holds(steps):
    for _server, reader in play(steps, Missing.OWNER):
        assert reader.told == reader.table.entries


@settings(max_examples=400, deadline=None)
@given(steps)
def test_a_confirmed_view_holds_what_the_bucket_holds(steps):
    for server, reader in play(steps, Missing.OWNER):
        if reader.connected and reader.table.confirmed:
            assert reader.table.entries == live(server)


@settings(max_examples=400, deadline=None)
@given(steps)
def test_whatever_happened_an_owner_that_compares_is_believed(steps):
    *_, (server, reader) = play([*steps, ("connect",), ("compare",)], Missing.OWNER)

    assert reader.table.confirmed
    assert reader.table.entries == server.rows == live(server)


@settings(max_examples=400, deadline=None)
@given(steps)
def test_a_stream_that_lost_something_deletes_nothing_that_the_owner_still_has(steps):
    """Between a loss and the owner's comparison, all that it never deleted goes on."""
    known = set()
    for server, reader in play(steps, Missing.OWNER):
        known = (known | reader.table.entries.keys()) & server.rows.keys()
        assert known <= reader.table.entries.keys()


@settings(max_examples=400, deadline=None)
@given(steps)
def test_nothing_is_set_back_to_an_older_value_before_the_owner_says_so(steps):
    """A revoked key stays revoked when NATS comes back with the disk of yesterday."""
    newest = {}
    for _server, reader in play(steps, Missing.OWNER):
        values = {key: int(value[1:]) for key, value in reader.table.entries.items()}
        if reader.table.confirmed:
            newest = values
        else:
            assert all(values[key] >= newest[key] for key in values.keys() & newest.keys())
            newest |= values


@settings(max_examples=200, deadline=None)
@given(steps)
def test_a_volatile_view_holds_what_the_stream_names_and_nothing_else(steps):
    for server, reader in play(steps, Missing.STREAM):
        if reader.connected:
            assert reader.table.entries == live(server)


@settings(max_examples=200, deadline=None)
@given(steps, st.sets(st.sampled_from(KEYS)))
def test_pruning_lets_go_of_nothing_that_the_stream_names(steps, wanted):
    for server, reader in play(steps, Missing.CALLER):
        reader.table.prune(lambda key: key in wanted)
        if reader.connected:
            assert live(server).items() <= reader.table.entries.items()
            extra = reader.table.entries.keys() - live(server).keys()
            assert extra == reader.table.kept
            assert extra <= wanted


def test_a_look_up_never_brings_back_what_the_stream_has_deleted_since():
    table = Table(Missing.OWNER, lambda *_: None)
    table.begin("s", 0)
    table.end()
    table.put("a", "old", 1, 1)
    table.remove("a", 2, 2)

    table.answer("a", "old", 1, 1)

    assert table.entries == {}


def test_a_look_up_that_is_ahead_of_the_stream_is_taken_and_then_confirmed():
    told = []
    table = Table(Missing.OWNER, lambda *change: told.append(change))
    table.begin("s", 0)
    table.end()

    table.answer("a", "new", 5, 5)
    table.put("a", "new", 5, 5)

    assert told == [("a", "new")]
    assert table.sequence == 5


def test_a_replay_that_broke_off_is_begun_anew_and_loses_nothing():
    table = Table(Missing.OWNER, lambda *_: None)
    table.begin("s", 2)
    table.put("a", "one", 1, 1)
    table.put("b", "one", 2, 2)
    table.end()

    table.begin("s", 3)
    table.put("a", "one", 1, 1)
    table.begin("s", 3)
    table.put("b", "one", 2, 2)
    table.put("a", "two", 3, 3)
    table.end()

    assert table.entries == {"a": "two", "b": "one"}
    assert table.sequence == 3


def test_who_hears_that_a_stream_made_anew_holds_nothing_can_tell_that_it_is_another():
    """So that leases which went with NATS are not taken for workers that died."""
    told = []
    table = Table(Missing.STREAM, lambda key, _value: told.append((key, table.created)))
    table.begin("first", 0)
    table.end()
    table.put("a", "alive", 1, 1)

    table.begin("second", 0)
    table.end()

    assert told == [("a", "first"), ("a", "second")]


def test_a_copy_that_is_ahead_of_the_stream_is_not_confirmed_by_an_old_word_of_the_owner():
    """A new process remembers how far the stream went, though not what was deleted in it."""
    table = Table(Missing.OWNER, lambda *_: None)
    table.start_from(created="s", sequence=5, stamp=50, epoch=1)

    table.begin("s", 3)
    table.complete("s", 1, 3, 30)
    table.end()
    assert not table.confirmed

    table.complete("s", 2, 4, 60)
    assert table.confirmed
