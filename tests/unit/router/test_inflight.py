import contextlib

from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts.reports import InstanceUse
from services.router.core.inflight import InFlight

names = st.sampled_from("abc")


@given(st.lists(st.tuples(names, names, st.booleans()), max_size=20))
def test_counts_are_given_back_however_a_request_ends(requests):
    in_flight = InFlight()
    for deployment, instance, fails in requests:
        with (
            contextlib.suppress(RuntimeError),
            in_flight.at_deployment(deployment, "k-1"),
            in_flight.at_instance(instance),
        ):
            assert in_flight.of(instance) == 1
            assert in_flight.deployments()[deployment].running == 1
            if fails:
                raise RuntimeError
    assert in_flight.total() == 0
    assert in_flight.instances() == {}
    assert in_flight.deployments() == {}
    assert sum(in_flight.keys().values()) == len(requests)


def test_what_was_seen_of_an_instance_lasts_until_it_is_forgotten():
    in_flight = InFlight()
    in_flight.answered("i", 5.0)
    in_flight.failed("i", 7.0, "reset")

    assert in_flight.instances() == {
        "i": InstanceUse(last_answer_at=5.0, last_error_at=7.0, last_error="reset")
    }
    with in_flight.at_instance("i"):
        in_flight.forget("i")
        assert in_flight.instances() == {"i": InstanceUse(in_flight=1)}
