import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core import errors, http


@given(st.floats(0, 10_000))
def test_retry_after_never_exceeds_what_clients_wait_and_both_forms_agree(seconds):
    found = dict(errors.retry_headers(seconds))

    assert 0 <= int(found[b"retry-after"]) <= 60
    assert int(found[b"retry-after-ms"]) <= int(found[b"retry-after"]) * 1000


@given(st.one_of(st.none(), st.binary(max_size=140), st.from_regex(rb"[a-z.]{1,130}")))
def test_a_request_id_is_the_clients_only_if_it_can_stand_in_a_header(given_id):
    found = http.request_id(given_id, lambda: "made")

    assert found.isascii()
    assert 1 <= len(found) <= 128
    assert not set(found) & set(" \r\n\t:/")


def test_ids_that_a_process_makes_differ():
    make = http.RequestIds("a1b2")

    made = {make() for _ in range(1000)}

    assert len(made) == 1000
    assert all(
        one.startswith("req-a1b2") and http.REQUEST_ID.fullmatch(one.encode()) for one in made
    )


def test_a_mere_options_is_no_preflight():
    assert http.is_preflight("OPTIONS", {"origin": "x", "access-control-request-method": "POST"})
    assert not http.is_preflight("OPTIONS", {"origin": "x"})
    assert not http.is_preflight("GET", {"origin": "x", "access-control-request-method": "GET"})


def test_of_a_header_that_comes_twice_the_first_counts():
    assert http.readable([(b"A", b"1"), (b"a", b"2")]) == {"a": "1"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "service_unavailable_error"),
    ],
)
def test_a_status_has_its_type(status, kind):
    assert errors.type_of(status) == kind
