"""What a person sees of one instance."""

import pytest
from msgspec.structs import replace

from caravan.cli.output import STYLES
from caravan.cli.show import line, mark
from caravan.contracts.admin import TruthLine

READY = TruthLine(
    instance="i-aaaaaa",
    generation=1,
    cluster="running",
    worker="ready",
    routers="ok",
    verdict="serve",
    ready=True,
    age_s=0.5,
    reason="",
    next_step="",
    text="ready, 0 in flight",
)
EJECTED = "ready, 0 in flight: ejected by 1 of 2 routers, last error: reset, 4 s ago"


@pytest.mark.parametrize(
    ("truth", "colour"),
    [
        (READY, "green"),
        (replace(READY, routers="ejected"), "yellow"),
        (replace(READY, ready=False, worker="loading"), "yellow"),
        (replace(READY, ready=False, worker="failed", routers="ejected"), "red"),
    ],
)
def test_only_what_serves_as_it_should_is_green(truth, colour):
    assert STYLES[mark(truth)] == colour


def test_an_ejection_is_read_where_the_instance_is():
    assert line(replace(READY, text=EJECTED)) == f"i-aaaaaa: {EJECTED}"


def test_a_scheduler_that_writes_no_line_is_read_all_the_same():
    told = line(replace(READY, routers="ejected", text="", reason="ejected by 1 of 2 routers"))
    assert "routers ejected" in told
    assert told.endswith("ejected by 1 of 2 routers")
