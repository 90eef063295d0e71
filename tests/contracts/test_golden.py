"""Bytes of yesterday are read today: golden files are added, never changed.

`python -m tests.contracts.test_golden` writes the files that are missing.
"""

from pathlib import Path

import msgspec
import pytest

from caravan.contracts import topology
from caravan.contracts.admin import Change, Request
from tests.contracts.samples import ANSWERS, REQUESTS, VALUES

FOLDER = Path(__file__).parent / "golden"

GOLDEN = (
    VALUES
    | {f"{e.service}.{e.name}.request": value for e, value in REQUESTS.items()}
    | {f"{e.service}.{e.name}.answer": value for e, value in ANSWERS.items()}
)
OPEN = {name: value for name, value in GOLDEN.items() if not isinstance(value, Request)}
"""What may gain fields without every reader being new: all but the requests."""
TAGGED = {
    name: value
    for name, value in VALUES.items()
    if name
    in {
        "instances.record",
        "instances.lease",
        "deployments.entry",
        "deployments.complete",
        "events.event",
        "reports.report",
        "reports.report-ejected",
    }
}


def read(name):
    return (FOLDER / f"{name}.json").read_bytes()


def cases(values):
    return pytest.mark.parametrize(("name", "value"), values.items(), ids=values.keys())


@cases(GOLDEN)
def test_yesterdays_bytes_mean_the_same_today(name, value):
    assert msgspec.json.decode(read(name), type=type(value)) == value


@cases(OPEN)
def test_a_field_of_tomorrow_is_read_over(name, value):
    """A newer writer beside an older reader is how every upgrade begins."""
    tomorrow = msgspec.json.decode(read(name)) | {"of_tomorrow": {"deep": [1]}}

    assert msgspec.json.decode(msgspec.json.encode(tomorrow), type=type(value)) == value


def test_a_scheduler_of_yesterday_reads_todays_report_of_an_instance():
    """Routers and schedulers are upgraded one after the other, in any order."""

    class Yesterday(msgspec.Struct):
        in_flight: int
        last_answer_at: float
        last_error_at: float
        last_error: str

    report = msgspec.json.decode(read("reports.report-ejected"))
    [use] = msgspec.convert(report["instances"], dict[str, Yesterday]).values()

    assert (use.in_flight, use.last_error) == (2, "connection refused")


@pytest.mark.parametrize("endpoint", topology.ENDPOINTS, ids=lambda e: e.subject)
def test_a_misspelt_field_of_a_request_is_refused(endpoint):
    """It would change nothing, and nobody would know."""
    asked = msgspec.json.decode(msgspec.json.encode(REQUESTS[endpoint])) | {"instnaces": 3}

    with pytest.raises(msgspec.ValidationError, match="instnaces"):
        msgspec.json.decode(msgspec.json.encode(asked), type=endpoint.request)


@cases(OPEN)
def test_a_word_of_tomorrow_is_no_error(name, value):
    """State, verdict, task may grow: a reader must be able to meet a word that it does not know."""
    fields = msgspec.json.decode(read(name))
    words = dict.fromkeys(("state", "task", "what", "kind", "code"), "of-tomorrow")
    grown = fields | {key: word for key, word in words.items() if key in fields}

    msgspec.json.decode(msgspec.json.encode(grown), type=type(value))


@cases(TAGGED)
def test_what_lies_in_a_bucket_or_stream_says_what_it_is(name, value):
    """So that a reader can tell a new kind of value from a damaged one."""
    kind = msgspec.json.decode(read(name))["type"]

    assert kind == value.__struct_config__.tag
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type":"of-tomorrow.v1"}', type=type(value))


@pytest.mark.parametrize("endpoint", topology.ENDPOINTS, ids=lambda e: e.subject)
def test_every_endpoint_has_a_golden_request_and_answer(endpoint):
    stem = f"{endpoint.service}.{endpoint.name}"

    assert type(REQUESTS[endpoint]) is endpoint.request
    assert type(ANSWERS[endpoint]) is endpoint.answer
    assert read(f"{stem}.request")
    assert read(f"{stem}.answer")


@pytest.mark.parametrize("bucket", topology.BUCKETS, ids=lambda b: b.name)
def test_every_bucket_has_a_golden_value(bucket):
    assert bucket.value in {type(value) for value in VALUES.values()}


def test_no_golden_file_is_forgotten():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(GOLDEN)


@cases(GOLDEN)
def test_samples_leave_no_field_out(name, value):
    """A field that no sample sets is one whose old form nobody remembers."""
    written = set(msgspec.json.decode(read(name)))
    known = {field.encode_name for field in msgspec.structs.fields(type(value))}

    assert known - written == set()


def test_every_change_carries_a_request_id_and_nothing_else_does():
    for endpoint in topology.ENDPOINTS:
        fields = endpoint.request.__struct_fields__
        assert ("request_id" in fields) == endpoint.changes == issubclass(endpoint.request, Change)


def test_no_payload_names_the_tenant_that_its_subject_names():
    """The bus fences tenants by subject; a second word would only contradict it."""
    for endpoint in topology.ENDPOINTS:
        assert "tenant" not in endpoint.request.__struct_fields__


if __name__ == "__main__":
    for name, value in GOLDEN.items():
        path = FOLDER / f"{name}.json"
        if not path.exists():
            path.write_bytes(msgspec.json.encode(value) + b"\n")
