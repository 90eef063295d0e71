from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts.deployments import DeploymentEntry, Verdict
from caravan.contracts.instances import Record
from services.router.core.candidates import Standing, Targets, usable
from services.router.core.inflight import InFlight
from services.router.core.policies import POLICIES, Ask, Candidate, policy

PREFIX, PATH = "u-8105f7322477.test", "u-8105f7322477/test"
records = st.dictionaries(
    st.sampled_from([f"i-{letter * 6}" for letter in "abcdef"]),
    st.builds(
        Record,
        incarnation=st.just("x"),
        term=st.integers(1, 2),
        generation=st.integers(1, 3),
        state=st.sampled_from(["ready", "loading", "draining", "failed", "tomorrow"]),
        url=st.sampled_from(["", "http://e"]),
    ),
)
words = st.sampled_from(["serve", "suspect", "drain", "tomorrow"])
entries = st.builds(
    DeploymentEntry,
    task=st.just("text-generation"),
    generations=st.lists(st.integers(1, 3)),
    state=st.just("running"),
    verdicts=st.dictionaries(
        st.sampled_from([f"i-{letter * 6}" for letter in "abcdef"]),
        words.map(lambda word: Verdict(word=word)),
    ),
)


@given(entries, records)
def test_an_instance_serves_when_worker_generation_and_verdict_say_so(entry, given_records):
    found = usable(PREFIX, entry, given_records, Standing())

    for instance, record in given_records.items():
        word = entry.verdicts[instance].word if instance in entry.verdicts else "none"
        good = record.state == "ready" and record.generation in entry.generations
        good = good and word in ("serve", "suspect") and bool(record.url)
        assert (f"{PREFIX}.{instance}" in found) == good


class Views:
    """One deployment; ``deployment`` and ``records`` are all that targets ask for."""

    def __init__(self, entry, given_records):
        self.entry, self._records = entry, given_records

    def deployment(self, key):
        return self.entry if key == PREFIX else None

    def records(self, key):
        return self._records if key == PREFIX else {}


@given(entries, records, st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_the_best_group_comes_first(entry, given_records, asked_for_time, ejected):
    bad = {f"{PREFIX}.i-{letter * 6}" for letter in ejected}
    targets = Targets(Views(entry, given_records), InFlight(), bad.__contains__)
    for letter in asked_for_time:
        targets.standing.refuses_until(f"{PREFIX}.i-{letter * 6}", 10.0)
    target = targets.of(PATH, PREFIX, now=5.0)

    ready = usable(PREFIX, entry, given_records, targets.standing)
    assert target.keys() == set(ready)
    order = [{c.instance for c in group} for group in target.groups]
    fit = {k[-8:] for k in ready if k not in bad}
    trusted = {name for name in fit if entry.verdicts[name].word == "serve"}
    willing = {name for name in trusted if name[2] not in asked_for_time}
    outliers = {k[-8:] for k in ready if k in bad}
    assert order == [g for g in (willing, trusted - willing, fit - trusted, outliers) if g]


@given(entries, records, st.data())
def test_an_untried_one_of_the_best_group_that_has_one_may_be_chosen(entry, given_records, data):
    targets = Targets(Views(entry, given_records), InFlight(), lambda _: False)
    target = targets.of(PATH, PREFIX, now=0.0)
    tried = data.draw(st.sets(st.sampled_from(sorted(target.keys()) or ["none"])))

    left = target.choose_from(tried)

    assert not {c.key for c in left} & tried
    assert bool(left) == bool(target.keys() - tried)


def test_a_target_is_worked_out_again_when_it_changed_or_its_time_is_up():
    record = Record(incarnation="x", term=1, generation=1, state="ready", url="http://e")
    entry = DeploymentEntry(
        task="text-generation",
        generations=[1],
        state="running",
        verdicts={"i-aaaaaa": Verdict(word="serve"), "i-bbbbbb": Verdict(word="serve")},
    )
    views = Views(entry, {"i-aaaaaa": record, "i-bbbbbb": record})
    targets = Targets(views, InFlight(), lambda _: False)
    first = targets.of(PATH, PREFIX, now=0.0)
    assert targets.known(PATH, 1e9) is first

    targets.standing.refuses_until(f"{PREFIX}.i-aaaaaa", 10.0)
    targets.changed_instance(f"{PREFIX}.i-aaaaaa")
    assert targets.known(PATH, 1.0) is None
    second = targets.of(PATH, PREFIX, now=1.0)
    assert [len(group) for group in second.groups] == [1, 1]
    assert targets.known(PATH, 9.9) is second
    assert targets.known(PATH, 10.0) is None
    assert [len(group) for group in targets.of(PATH, PREFIX, now=10.0).groups] == [2]
    views.entry = None
    targets.changed(PREFIX)
    assert targets.of(PATH, PREFIX, now=11.0) is None


def test_one_object_stands_for_an_instance_whatever_its_record():
    in_flight = InFlight()
    old = Record(incarnation="x", term=1, generation=1, state="ready", url="http://e")
    new = Record(incarnation="y", term=2, generation=1, state="ready", url="http://f")
    candidate = in_flight.candidate("k", old)
    candidate.heads["/v1/x"] = b"of the old address"

    assert in_flight.candidate("k", old).heads
    assert in_flight.candidate("k", new) is candidate
    assert candidate.record is new
    assert candidate.heads == {}


def test_a_stranger_is_dropped_until_its_record_changes():
    standing = Standing()
    old = Record(incarnation="x", term=1, generation=1, state="ready", url="http://e")
    standing.unauthorized("k", old)

    assert standing.stranger("k", old)
    assert not standing.stranger("k", Record(**{**_fields(old), "term": 2}))
    assert not standing.stranger("k", old)  # forgotten: it is another life now


def _fields(record):
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_time_that_an_engine_asked_for_passes():
    standing = Standing()
    standing.refuses_until("k", 10.0)

    assert standing.refuses("k", 9.9) == 10.0
    assert standing.wait_s(["k", "other"], 4.0) == 6.0
    assert not standing.refuses("k", 10.0)
    assert standing.wait_s(["k"], 10.0) is None


candidates = st.lists(
    st.builds(
        Candidate,
        st.text(min_size=1),
        st.builds(
            Record,
            incarnation=st.just("x"),
            term=st.just(1),
            generation=st.just(1),
            state=st.just("ready"),
        ),
        st.integers(0, 9),
    ),
    min_size=1,
)
asks = st.builds(Ask, st.floats(0, 1, exclude_max=True))


@given(st.sampled_from([*POLICIES, "of-a-newer-scheduler"]), asks, candidates)
def test_every_policy_picks_one_of_its_candidates(name, ask, given_candidates):
    assert policy(name).choose(ask, given_candidates) in given_candidates


@given(asks, candidates)
def test_least_in_flight_picks_one_of_the_least_busy(ask, given_candidates):
    chosen = policy("least-in-flight").choose(ask, given_candidates)

    assert chosen.in_flight == min(c.in_flight for c in given_candidates)
