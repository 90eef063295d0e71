import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core import engine_errors
from services.router.core.engine_errors import scrub
from services.router.core.errors import envelope, headers_of

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "loc", "msg", "param", "x"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(json, st.integers(400, 599))
def test_any_json_becomes_an_envelope(found, status):
    said = engine_errors.read(msgspec.json.encode(found))
    refusal = engine_errors.refusal(status, said, "u-1/m")

    error = msgspec.json.decode(envelope(refusal))["error"]
    assert refusal.status == status
    assert error["message"]
    assert isinstance(error["code"], str)
    assert headers_of(refusal)[0] == (b"content-type", b"application/json")


@given(st.binary(max_size=60))
def test_any_bytes_can_be_read(raw):
    engine_errors.read(raw)


@pytest.mark.parametrize(
    ("message", "scrubbed"),
    [
        ("at http://10.1.2.3:30000/v1/x now", "at [address] now"),
        ("10.1.2.3:30000 refused", "[address] refused"),
        ("localhost:5000", "[address]"),
        ("[::1]:80 is down", "[address] is down"),
        ('File "/usr/lib/python3/x.py", line 3', 'File "[path]", line 3'),
        ("no ~/models/a or ./b/c/d", "no [path] or [path]"),
        (r"C:\models\x", "[path]"),
        ("u-8105f7322477/test is fine", "u-8105f7322477/test is fine"),
        ("use /chat or and/or 3/4", "use /chat or and/or 3/4"),
        ("1.5 of 2.0.1 tokens", "1.5 of 2.0.1 tokens"),
    ],
)
def test_addresses_and_paths_go_model_ids_and_words_stay(message, scrubbed):
    assert scrub(message) == scrubbed
