"""What the plan decides, held against a small world of its own: an oracle that plans nothing."""

from itertools import count

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from caravan.contracts.instances import Record
from services.scheduler.core.books import turn
from services.scheduler.core.cluster import Observed
from services.scheduler.core.plan import (
    Drain,
    End,
    Name,
    Remove,
    Start,
    StartAgain,
    Stop,
    commands,
    plan,
    unclaimed,
)
from services.scheduler.core.rows import DRAIN, GONE, RUN, Asked, Named
from services.scheduler.core.sight import Sight

TENANT = "u-0123456789ab"
ASKED = Asked(tenant=TENANT, name="test", task="text-generation", source="file:///m", instances=1)


def named(instance, generation=1, wanted=RUN, **more):
    return Named(spec=replace(ASKED, generation=generation).spec(instance), wanted=wanted, **more)


def seen(instance, generation=1, *, state="running", worker="ready", busy=0, **more):
    """Return an instance as all see it; ``worker`` None: no record, ``state`` None: unknown."""
    wanted = more.pop("wanted", RUN)
    row = named(instance, generation, wanted, deadline=more.pop("deadline", 0.0))
    record = Record(incarnation="x", term=1, generation=generation, state=worker or "")
    return Sight(
        row=row,
        observed=Observed(ref=row.ref, state=state) if state else None,
        record=record if worker else None,
        in_flight=busy,
        **more,
    )


class SmallWorld:
    """Instances that start in three rounds, end in one, and never do anything by themselves."""

    def __init__(self, asked, sights):
        self.asked = asked
        self.sights = {s.row.instance: s for s in sights}
        self.age = {}
        self.ids = (f"i-new{n:03}" for n in count())

    def round(self):
        """Plan, apply, let time pass; return what was decided and told."""
        decided = plan(self.asked, list(self.sights.values()), self.ids, now=0.0)
        for decision in decided:
            self.apply(decision)
        told = commands(list(self.sights.values()))
        for command in told:
            self.tell(command)
        self.pass_time()
        return [*decided, *told]

    def apply(self, decision):
        match decision:
            case Name(spec):
                row = Named(spec=spec)
                assert row.instance not in self.sights
                self.sights[row.instance] = Sight(row=row)
            case Drain(instance, _):
                self.step(instance, RUN, DRAIN)
            case End(instance):
                self.step(instance, DRAIN, GONE)
            case Remove(instance):
                gone = self.sights.pop(instance)
                assert gone.row.wanted == GONE
                assert gone.observed is None or gone.observed.state == "ended"

    def step(self, instance, before, after):
        sight = self.sights[instance]
        assert sight.row.wanted == before
        self.sights[instance] = replace(sight, row=replace(sight.row, wanted=after))

    def tell(self, command):
        match command:
            case Start(spec) | StartAgain(spec):
                sight = self.sights[spec.instance]
                assert sight.observed is None or sight.observed.state == "ended"
                self.see(spec.instance, "running", "starting")
                self.age[spec.instance] = 0
            case Stop(ref):
                assert self.sights[ref.instance].row.wanted == GONE
                self.see(ref.instance, "ended", None)

    def see(self, instance, state, worker):
        row = self.sights[instance].row
        self.sights[instance] = seen(
            instance, row.generation, state=state, worker=worker, wanted=row.wanted
        )

    def pass_time(self):
        for instance in list(self.age):
            self.age[instance] += 1
            if instance not in self.sights:
                del self.age[instance]
            elif self.age[instance] == 3 and self.sights[instance].row.wanted != GONE:
                self.see(instance, "running", "ready")
        for instance, sight in self.sights.items():
            if sight.row.wanted == DRAIN:
                self.sights[instance] = replace(sight, empty=True)

    def serving(self):
        return sum(
            s.row.wanted == RUN and s.record is not None and s.record.state == "ready"
            for s in self.sights.values()
        )

    def settle(self):
        """Yield after each round, until nothing is decided and nothing starts."""
        for _ in range(400):
            if not self.round() and all(a > 3 for a in self.age.values()):
                return
            yield self
        pytest.fail("the rounds do not end")


instances = st.lists(
    st.builds(
        dict,
        generation=st.integers(1, 2),
        wanted=st.sampled_from([RUN, RUN, RUN, DRAIN, GONE]),
        worker=st.sampled_from(["ready", "ready", "loading", "failed", None]),
        state=st.sampled_from(["running", "running", "restarting", "waiting", "ended", None]),
    ),
    max_size=6,
)
asked = st.builds(
    lambda n, g, p: replace(ASKED, instances=n, generation=g, in_place=p),
    st.integers(0, 5),
    st.integers(1, 3),
    st.booleans(),
)


def world(wish, found):
    return SmallWorld(wish, [seen(f"i-{n}", **f) for n, f in enumerate(found)])


@given(asked, instances)
def test_rounds_end_with_what_was_asked(wish, found):
    here = world(wish, found)
    for sight in here.sights.values():  # what starts already will be ready, too
        if sight.row.wanted == RUN and sight.observed and sight.observed.state != "ended":
            here.age[sight.row.instance] = 0
    for _ in here.settle():
        pass

    rows = [s.row for s in here.sights.values()]
    assert [r.generation for r in rows] == [wish.generation] * wish.instances
    assert {r.wanted for r in rows} <= {RUN}
    assert here.serving() == wish.instances


ready = st.lists(st.integers(1, 2), max_size=5).map(
    lambda generations: [{"generation": g} for g in generations]
)


@given(asked, ready)
def test_an_update_neither_takes_capacity_away_nor_doubles_it(wish, found):
    """One more than asked at the most; in place, one less than asked at the least."""
    here = world(wish, found)
    least = min(len(found), wish.instances) - (1 if wish.in_place else 0)
    most = max(len(found), wish.instances + (0 if wish.in_place else 1))
    for now in here.settle():
        assert now.serving() >= least
        assert len(now.sights) <= most


@given(ready)
def test_a_change_of_count_alone_restarts_nobody(found):
    assume(found)
    wish = replace(ASKED, instances=len(found), generation=1)
    here = world(wish, [{"generation": 1} for _ in found])
    before = set(here.sights)
    here.asked = replace(wish, instances=len(found) + 2)
    for _ in here.settle():
        assert before <= set(here.sights)


@given(
    st.lists(
        st.tuples(st.sampled_from(["ready", "loading"]), st.booleans(), st.integers(0, 3)),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 6),
)
def test_those_that_leave_are_those_that_are_missed_least(states, want):
    sights = [
        seen(f"i-{n}", worker=worker, silent=silent and worker == "ready", busy=busy)
        for n, (worker, silent, busy) in enumerate(states)
    ]
    wish = replace(ASKED, instances=want)
    leaving = (
        {d.instance for d in plan(wish, sights, iter(()), 0.0) if isinstance(d, Drain)}
        if (want <= len(sights))
        else set()
    )

    def worth(sight):
        return sight.record.state == "ready", not sight.silent, sight.in_flight

    assert len(leaving) == max(len(sights) - want, 0)
    go = [worth(s) for s in sights if s.row.instance in leaving]
    stay = [worth(s) for s in sights if s.row.instance not in leaving]
    assert not go or not stay or max(go) <= min(stay)


@given(asked, instances)
def test_decisions_name_rows_only(wish, found):
    """What no row names cannot be decided upon: it is not even there to be named."""
    here = world(wish, found)
    for decision in plan(wish, list(here.sights.values()), here.ids, 0.0):
        assert isinstance(decision, Name) or decision.instance in here.sights


def test_what_is_in_the_trash_is_drained():
    deleted = replace(ASKED, instances=0, deleted_at=1.0)
    assert plan(deleted, [seen("i-a")], iter(()), 5.0) == [Drain("i-a", 125.0)]


@pytest.mark.parametrize(
    ("sight", "ends"),
    [
        (seen("i-a", wanted=DRAIN, deadline=10.0), False),
        (seen("i-a", wanted=DRAIN, deadline=10.0, empty=True), True),
        (seen("i-a", wanted=DRAIN, deadline=5.0), True),
        (seen("i-a", wanted=DRAIN, deadline=10.0, state="ended"), True),
        (seen("i-a", wanted=DRAIN, deadline=10.0, state="restarting"), False),
    ],
)
def test_a_drain_ends_when_it_is_empty_or_late_or_over(sight, ends):
    stopped = replace(ASKED, instances=0)
    assert plan(stopped, [sight], iter(()), 5.0) == ([End("i-a")] if ends else [])


def test_a_missing_record_is_no_reason_to_take_an_old_one_out():
    """The bucket may have been emptied while its engine serves on."""
    updated = replace(ASKED, generation=2)
    decided = plan(updated, [seen("i-a", worker=None)], iter(["i-b"]), 0.0)
    assert decided == [Name(updated.spec("i-b"))]


@pytest.mark.parametrize(
    ("sight", "told"),
    [
        (seen("i-a", state=None), Start),
        (seen("i-a"), None),
        (seen("i-a", state="restarting"), None),
        (seen("i-a", state="ended"), StartAgain),
        (seen("i-a", wanted=DRAIN, state=None), None),
        (seen("i-a", wanted=GONE), Stop),
        (seen("i-a", wanted=GONE, state="stopping"), None),
        (seen("i-a", wanted=GONE, state="ended"), None),
        (seen("i-a", wanted=GONE, state=None), None),
    ],
)
def test_the_cluster_is_told_what_the_rows_say(sight, told):
    assert [type(c) for c in commands([sight])] == ([told] if told else [])


def test_nothing_is_told_to_a_cluster_that_was_never_heard():
    assert commands([seen("i-a", state=None, cluster_known=False, wanted=GONE)]) == []


def test_what_no_row_names_is_unclaimed():
    a, b = named("i-a"), named("i-b")
    assert unclaimed([a], [a.ref, b.ref]) == [b.ref]


@pytest.mark.parametrize("wanted", [RUN, DRAIN, GONE])
@pytest.mark.parametrize("decision", [Drain("i-a", 9.0), End("i-a"), Remove("i-a")])
def test_a_row_only_goes_forward(wanted, decision):
    """A decision of before a message came between changes nothing that is further already."""
    order = [RUN, DRAIN, GONE, None]
    one = turn(decision, [named("i-a", wanted=wanted)], now=1.0)
    after = {Drain: DRAIN, End: GONE, Remove: None}[type(decision)]
    if order.index(after) == order.index(wanted) + 1:
        assert one is not None
        assert (one.row.wanted if one.row else None) == after
    else:
        assert one is None
