"""The clock by which silence is counted."""

import pytest

from services.router.core.job import Clock


@pytest.mark.parametrize(
    ("elapsed_s", "counted_s"), [(0.5, 0.5), (1.0, 1.0), (1.9, 1.9), (2.1, 2.0), (3600.0, 2.0)]
)
def test_a_clock_stands_still_while_its_process_does(elapsed_s, counted_s):
    clock = Clock(100.0)

    clock.set_on(7.0, planned_s=1.0)
    begin = clock.now
    for n in range(1, 4):
        clock.set_on(7.0 + n * elapsed_s, planned_s=1.0)

    assert begin == pytest.approx(101.0)
    assert clock.now - begin == pytest.approx(3 * counted_s)
