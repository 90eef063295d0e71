"""What the medians of a comparison say, and of which measurements they are."""

import msgspec
import pytest

from benchmarks.router import report
from benchmarks.router.cases import case
from benchmarks.router.measure import Load, Sample

LOAD = Load(done=1000, errors=0, not_200=0, elapsed_s=1, rps=1000, whole_ms_p50=1, whole_ms_p99=2)


def sample(peer="ours", case="A32", cpu_s=1.0, rss_mb=50.0, others_cpu_s=0.0, **seen):
    return Sample(
        peer=peer,
        case=case,
        round=0,
        load=msgspec.structs.replace(LOAD, **seen),
        cpu_s=cpu_s,
        engines_cpu_s=0,
        others_cpu_s=others_cpu_s,
        wall_s=1.0,
        rss_mb=rss_mb,
    )


def only(samples):
    [found] = report.figures(samples)
    return found


def test_figures_are_medians_of_the_rounds():
    found = only([sample(cpu_s=0.1, rps=5), sample(cpu_s=0.3, rps=7), sample(cpu_s=0.2, rps=6)])

    assert (found.cpu_ms, found.rps) == (pytest.approx(0.2), 6)


def test_noisy_rounds_do_not_count_when_two_were_quiet():
    noisy = [sample(cpu_s=9, others_cpu_s=0.5) for _ in range(3)]

    assert only([*noisy, sample(cpu_s=1), sample(cpu_s=3)]).cpu_ms == pytest.approx(2)
    assert only([*noisy, sample(cpu_s=1)]).cpu_ms == pytest.approx(9)


def test_time_to_first_token_is_what_comes_on_top_of_the_engines_own():
    found = report.figures(
        [
            sample("direct", "C200", ttft_ms_p50=1.0, ttft_ms_p99=2.0),
            sample("ours", "C200", ttft_ms_p50=1.5, ttft_ms_p99=4.0),
        ]
    )

    direct, ours = found
    assert (ours.ttft_added_ms_p50, ours.ttft_added_ms_p99) == (0.5, 2.0)
    assert (direct.ttft_added_ms_p50, direct.cpu_ms, direct.rss_mb) == (None, None, None)


def test_without_the_engine_itself_nothing_can_be_on_top_of_it():
    assert only([sample("ours", "C200", ttft_ms_p50=1.5)]).ttft_added_ms_p50 is None


def test_a_target_is_an_upper_or_a_lower_bound_of_a_ratio():
    found = report.figures(
        [
            sample("sglang-ca", cpu_s=1.0, rps=100),
            sample("ours", cpu_s=0.6, rps=200),
        ]
    )

    met = {(v.target.figure, v.met) for v in report.verdicts(found)}
    assert met == {("cpu_ms", False), ("rps", True)}
    assert not report.kept(found)


def test_a_router_that_meets_its_targets_keeps_them_unless_it_is_too_large():
    peer, slim = sample("sglang-ca", cpu_s=1.0, rps=100), sample(cpu_s=0.4, rps=200)
    fat = msgspec.structs.replace(slim, rss_mb=71.0)

    assert report.kept(report.figures([peer, slim]))
    assert not report.kept(report.figures([peer, fat]))


def test_a_ratio_to_a_peer_that_was_faster_than_no_router_at_all_says_nothing():
    found = report.figures(
        [
            sample("direct", "C200", ttft_ms_p50=2.0, ttft_ms_p99=9.0),
            sample("nginx", "C200", cpu_s=1.0, ttft_ms_p50=1.0, ttft_ms_p99=8.0),
            sample("ours", "C200", cpu_s=1.0, ttft_ms_p50=0.5, ttft_ms_p99=7.0),
        ]
    )

    unclear = {v.target.figure for v in report.verdicts(found) if v.ratio is None}
    assert unclear == {"ttft_added_ms_p50", "ttft_added_ms_p99"}
    assert not report.kept(found)


def test_the_tables_name_what_is_missed():
    samples = [sample("sglang-ca", cpu_s=1.0, rps=100), sample("ours", cpu_s=0.6, rps=200)]

    text = report.tables(samples, report.figures(samples), {"A32": case("A32")})

    [missed] = [line for line in text.splitlines() if "MISSED" in line]
    assert "sglang-ca, A32 CPU ms" in missed
    assert max(map(len, text.splitlines())) <= 80
