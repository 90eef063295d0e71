from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts.deployments import DeploymentEntry, Verdict
from caravan.contracts.instances import Record
from services.router.core.candidates import Standing, best, usable
from services.router.core.policies import POLICIES, Ask, Candidate, policy

PREFIX = "u-8105f7322477.test"
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


@given(entries, records, st.sets(st.sampled_from("abcdef")))
def test_the_best_group_comes_alone(entry, given_records, asked_for_time):
    standing = Standing()
    for letter in asked_for_time:
        standing.refuses_until(f"{PREFIX}.i-{letter * 6}", 10.0)
    ready = usable(PREFIX, entry, given_records, standing)
    chosen = {c.instance for c in best(entry, ready, standing, lambda _: 0, now=5.0)}

    trusted = {k.rpartition(".")[2] for k in ready if entry.verdicts[k[-8:]].word == "serve"}
    willing = {name for name in trusted if name[2] not in asked_for_time}
    suspects = {k[-8:] for k in ready} - trusted
    assert chosen == (willing or trusted or suspects)


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

    assert standing.refuses("k", 9.9)
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
