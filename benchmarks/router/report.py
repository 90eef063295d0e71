"""What the samples of a run say: medians, ratios, and whether the targets are met."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from benchmarks.router.cases import Case
from benchmarks.router.measure import Sample

ENOUGH_QUIET = 2
US = "ours"
MEMORY_MB = 70.0


class Figures(Struct, frozen=True, kw_only=True):
    """Medians of one router under one case; None where it has no such figure."""

    peer: str
    case: str
    rps: float
    cpu_ms: float | None
    """CPU of the router per request or stream."""
    ttft_added_ms_p50: float | None
    """To the first byte of a stream, over that of the engine itself, ``direct``."""
    ttft_added_ms_p99: float | None
    rss_mb: float | None


class Target(Struct, frozen=True, kw_only=True):
    """What a figure of ours shall be, as a multiple of a peer's."""

    case: str
    figure: str
    """A field of ``Figures``."""
    peer: str
    factor: float
    at_least: bool = False
    """Else the factor is an upper bound."""


class Verdict(Struct, frozen=True):
    """A target and what became of it."""

    target: Target
    ours: float
    theirs: float

    @property
    def ratio(self) -> float | None:
        """None where the peer's figure is nothing: the machine was too busy to tell."""
        return self.ours / self.theirs if self.theirs > 0 else None

    @property
    def met(self) -> bool:
        """Whether the target is known to be met."""
        wanted, ratio = self.target.factor, self.ratio
        if ratio is None:
            return False
        return ratio >= wanted if self.target.at_least else ratio <= wanted


def _at_most(case: str, figure: str, peer: str, factor: float) -> Target:
    return Target(case=case, figure=figure, peer=peer, factor=factor)


def _at_least(case: str, figure: str, peer: str, factor: float) -> Target:
    return Target(case=case, figure=figure, peer=peer, factor=factor, at_least=True)


TARGETS = (
    _at_most("A32", "cpu_ms", "sglang-ca", 0.5),
    _at_least("A32", "rps", "sglang-ca", 1.8),
    _at_most("B32", "cpu_ms", "sglang-ca", 0.1),
    _at_most("B32n", "cpu_ms", "sglang-ca", 0.12),
    _at_most("C200", "cpu_ms", "sglang-ca", 0.7),
    _at_least("D8", "rps", "sglang-ca", 1.4),
    _at_most("D8", "cpu_ms", "sglang-ca", 0.5),
    _at_most("A32", "cpu_ms", "nginx", 1.8),
    _at_most("B32", "cpu_ms", "nginx", 0.8),
    _at_most("C200", "cpu_ms", "nginx", 1.3),
    _at_most("C200", "ttft_added_ms_p50", "nginx", 2.0),
    _at_most("C200", "ttft_added_ms_p99", "nginx", 2.0),
    _at_most("C1000", "ttft_added_ms_p99", "nginx", 1.5),
    _at_most("A32", "cpu_ms", "litellm-1w", 1 / 150),
)
_WORDS = {
    "cpu_ms": "CPU ms",
    "rps": "per second",
    "ttft_added_ms_p50": "added p50",
    "ttft_added_ms_p99": "added p99",
}


def counted(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the quiet ones of one router and case; all when hardly any was quiet."""
    quiet = [sample for sample in samples if not sample.noisy]
    return quiet if len(quiet) >= ENOUGH_QUIET else samples


def figures(samples: Sequence[Sample]) -> list[Figures]:
    """Return the medians, case by case, routers in the order in which they first came."""
    grouped: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        grouped.setdefault((sample.case, sample.peer), []).append(sample)
    cases = list(dict.fromkeys(sample.case for sample in samples))
    peers = list(dict.fromkeys(sample.peer for sample in samples))
    return [
        _figures(counted(grouped[case, peer]), counted(grouped.get((case, "direct"), [])))
        for case in cases
        for peer in peers
        if (case, peer) in grouped
    ]


def _figures(samples: Sequence[Sample], direct: Sequence[Sample]) -> Figures:
    one = samples[0]
    routed = one.peer != "direct"
    return Figures(
        peer=one.peer,
        case=one.case,
        rps=statistics.median(sample.load.rps for sample in samples),
        cpu_ms=statistics.median(sample.cpu_ms for sample in samples) if routed else None,
        ttft_added_ms_p50=_added(samples, direct, lambda sample: sample.load.ttft_ms_p50),
        ttft_added_ms_p99=_added(samples, direct, lambda sample: sample.load.ttft_ms_p99),
        rss_mb=statistics.median(sample.rss_mb for sample in samples) if routed else None,
    )


def _added(
    samples: Sequence[Sample],
    direct: Sequence[Sample],
    of: Callable[[Sample], float | None],
) -> float | None:
    ours, theirs = _known(map(of, samples)), _known(map(of, direct))
    if samples[0].peer == "direct" or not ours or not theirs:
        return None
    return statistics.median(ours) - statistics.median(theirs)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def verdicts(found: Iterable[Figures]) -> list[Verdict]:
    """Return the targets that ``found`` has both figures for."""
    by = {(one.case, one.peer): one for one in found}
    judged = []
    for target in TARGETS:
        ours, theirs = by.get((target.case, US)), by.get((target.case, target.peer))
        if ours is None or theirs is None:
            continue
        mine, its = getattr(ours, target.figure), getattr(theirs, target.figure)
        if mine is not None and its is not None:
            judged.append(Verdict(target, mine, its))
    return judged


def memory_mb(found: Iterable[Figures]) -> float | None:
    """Return the most memory that our router had, None when it was not there."""
    return max((one.rss_mb for one in found if one.peer == US and one.rss_mb), default=None)


def kept(found: Sequence[Figures]) -> bool:
    """Tell whether all targets are met that were measured."""
    memory = memory_mb(found)
    return all(verdict.met for verdict in verdicts(found)) and (memory or 0.0) <= MEMORY_MB


def tables(samples: Sequence[Sample], found: Sequence[Figures], cases: Mapping[str, Case]) -> str:
    """Return a table per case, and one of the targets, for eyes."""
    lines: list[str] = []
    for case in dict.fromkeys(one.case for one in found):
        lines += ["", f"{case}: {cases[case].title}", _HEAD]
        lines += [
            _row(one, [s for s in samples if (s.case, s.peer) == (case, one.peer)])
            for one in found
            if one.case == case
        ]
    return "\n".join([*lines, *_targets(found), ""])


_HEAD = (
    f"  {'':11}{'per second':>11}{'CPU ms':>9}{'added p50':>11}{'p99 ms':>8}{'MB':>7}"
    "  quiet  failed"
)


def _row(one: Figures, samples: Sequence[Sample]) -> str:
    quiet = sum(not sample.noisy for sample in samples)
    failed = sum(sample.failures for sample in samples)
    return (
        f"  {one.peer:11}{one.rps:11,.0f}{_number(one.cpu_ms):>9}"
        f"{_number(one.ttft_added_ms_p50):>11}{_number(one.ttft_added_ms_p99):>8}"
        f"{_whole(one.rss_mb):>7}  {quiet:2d}/{len(samples):<2d}  {failed or '':>6}"
    ).rstrip()


def _targets(found: Sequence[Figures]) -> list[str]:
    judged = verdicts(found)
    if not judged:
        return []
    lines = ["", "Targets", f"  {'ours against':33}{'ours':>9}{'peer':>9}{'ratio':>8}  wanted"]
    lines += [_target(verdict) for verdict in judged]
    if (memory := memory_mb(found)) is not None:
        word = "met" if memory <= MEMORY_MB else "MISSED"
        lines.append(f"  {'resident MB, most':33}{memory:9.0f}{'':17}  <= {MEMORY_MB:<8.0f}{word}")
    return lines


def _target(verdict: Verdict) -> str:
    target = verdict.target
    what = f"{target.peer}, {target.case} {_WORDS[target.figure]}"
    sign = ">=" if target.at_least else "<="
    word = "met" if verdict.met else "unclear" if verdict.ratio is None else "MISSED"
    return (
        f"  {what:33}{_number(verdict.ours):>9}{_number(verdict.theirs):>9}"
        f"{_number(verdict.ratio):>8}  {sign} {target.factor:<8.3g}{word}"
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
