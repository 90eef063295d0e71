"""What a failure allows: HTTP.md, "Attempts"."""

from hypothesis import given
from hypothesis import strategies as st

from services.router.core.attempts import BUDGET_FLOOR, Attempts, Failure, RetryBudget

failures = st.lists(st.sampled_from(Failure), max_size=12)


@given(failures)
def test_no_instance_gets_a_request_twice_but_after_a_stale_connection(given_failures):
    attempts, order = Attempts(RetryBudget()), []
    for n, failure in enumerate(given_failures):
        order.append(f"i-{n}")
        attempts.begin(f"i-{n}")
        if not attempts.may_go_on(failure, f"i-{n}", 0.0, others=True):
            break
    again = [name for name in order if name not in attempts.tried]
    assert len(again) <= 1
    assert all(given_failures[order.index(name)] is Failure.STALE for name in again)


@given(failures)
def test_a_request_that_was_delivered_and_broke_goes_to_one_more_at_most(given_failures):
    attempts, breaks = Attempts(RetryBudget()), 0
    for n, failure in enumerate(given_failures):
        attempts.begin(f"i-{n}")
        breaks += failure in {Failure.BROKEN, Failure.STALE}
        if not attempts.may_go_on(failure, f"i-{n}", 0.0, others=True):
            break
    assert breaks <= 2


def test_an_instance_that_breaks_on_a_new_connection_too_is_still_one_instance():
    attempts = Attempts(RetryBudget())
    for failure, goes_on in ((Failure.STALE, True), (Failure.BROKEN, True), (Failure.STALE, True)):
        attempts.begin("i-dying")
        assert attempts.may_go_on(failure, "i-dying", 0.0, others=True) is goes_on
    assert attempts.tried == {"i-dying"}
    attempts.begin("i-2")
    assert not attempts.may_go_on(Failure.BROKEN, "i-2", 0.0, others=True)


def test_what_was_never_delivered_goes_on_outside_any_budget():
    budget = RetryBudget()
    while budget.take(0.0):
        pass
    attempts = Attempts(budget)
    for n in range(100):
        attempts.begin(f"i-{n}")
        assert attempts.may_go_on(Failure.NEVER_DELIVERED, f"i-{n}", 0.0, others=True)
        assert attempts.may_go_on(Failure.UNAUTHORIZED, f"i-{n}", 0.0, others=True)
        assert not attempts.may_go_on(Failure.REFUSED, f"i-{n}", 0.0, others=True)


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=300))
def test_the_budget_is_a_tenth_of_ten_seconds_traffic_or_ten(given_moments):
    """The oracle counts by hand; the budget is looked at once a second."""
    budget, requests, retries, looked = RetryBudget(), [], [], 0
    for now, is_retry in sorted(given_moments):
        while looked < now:
            looked += 1
            budget.look(float(looked))
        if not is_retry:
            budget.requests += 1
            requests.append(now)
            continue
        recent = sum(at >= now - 10 for at in requests)
        taken = sum(at > now - 10 for at in retries)
        allowed = taken < max(BUDGET_FLOOR, recent // 10)
        assert budget.take(float(now)) is allowed
        if allowed:
            retries.append(now)


def test_with_no_other_instance_nothing_goes_on_but_a_stale_connection_and_no_budget_is_used():
    budget = RetryBudget()
    for failure in Failure:
        for _ in range(20):
            attempts = Attempts(budget)
            attempts.begin("i-1")
            goes_on = attempts.may_go_on(failure, "i-1", 0.0, others=False)
            assert goes_on is (failure is Failure.STALE)
    assert budget.take(0.0)
