"""Cases by their names."""

import pytest

from benchmarks.router.cases import DEFAULT, case


@pytest.mark.parametrize("name", DEFAULT)
def test_every_case_that_is_run_by_default_exists(name):
    assert case(name).name == name


@pytest.mark.parametrize("name", ["", "A", "E1", "A0", "A1n", "C4e", "B32x", "B-1"])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match="no case"):
        case(name)


def test_paced_streams_are_counted_only_when_all_have_begun():
    crowd = case("C1000", scale=0.01)

    assert crowd.warm_ms > crowd.ramp_ms > 0
    assert crowd.seconds * 1000 > crowd.warm_ms


def test_more_chunks_make_longer_streams():
    assert case("C200", tokens=128).warm_ms > case("C200").warm_ms
    assert case("B32", tokens=128).tokens == 128
