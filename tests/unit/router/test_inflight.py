from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts.instances import Record
from caravan.contracts.reports import InstanceUse
from services.router.core.inflight import InFlight

RECORD = Record(incarnation="x", term=1, generation=1, state="ready", url="http://e")
names = st.sampled_from("abc")


@given(st.lists(st.tuples(names, names), max_size=20), st.randoms())
def test_counts_are_of_what_is_under_way(requests, order):
    in_flight, ending = InFlight(), list(requests)
    for n, (deployment, instance) in enumerate(requests):
        in_flight.load(deployment).running += 1
        in_flight.uses["k-1"] += 1
        in_flight.candidate(instance, RECORD).in_flight += 1
        assert in_flight.total() == n + 1
    order.shuffle(ending)
    for deployment, instance in ending:
        assert in_flight.deployments()[deployment].running > 0
        assert in_flight.instances()[instance].in_flight > 0
        in_flight.load(deployment).running -= 1
        in_flight.candidate(instance, RECORD).in_flight -= 1

    assert in_flight.total() == 0
    assert in_flight.instances() == {}
    assert in_flight.deployments() == {}
    assert sum(in_flight.keys().values()) == len(requests)


def test_what_was_seen_of_an_instance_lasts_until_it_is_forgotten():
    in_flight = InFlight()
    one = in_flight.candidate("i", RECORD)
    one.last_answer_at, one.last_error_at, one.last_error = 5.0, 7.0, "reset"

    assert in_flight.instances() == {
        "i": InstanceUse(last_answer_at=5.0, last_error_at=7.0, last_error="reset")
    }
    one.in_flight += 1
    in_flight.forget("i")
    assert in_flight.instances() == {"i": InstanceUse(in_flight=1)}
    one.in_flight -= 1
    assert in_flight.instances() == {}
    assert in_flight.candidate("i", RECORD) is not one


def test_a_refused_request_is_counted_without_being_under_way():
    in_flight = InFlight()
    in_flight.load("d").refused += 1

    assert in_flight.deployments()["d"].refused == 1
    assert in_flight.total() == 0
