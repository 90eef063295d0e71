"""Outlier ejection: which instances fail this router, and when they are to be tried again.

What counts, as in Envoy's outlier detection (consecutive_5xx, consecutive_local_origin_failure)
and nginx's ``max_fails``: failures in a row, not their share, so that it works at one request a
minute and at a thousand a second.

============================== ===============================================================
no connection                  a failure; 3 in a row eject, since nothing was even delivered
500, 502, 504, broken answer   a failure; 5 in a row of any kind eject, as Envoy's default
503, 429                       neither: it is full or starting, and alive enough to say so
a kept connection had closed   neither: it may have been idle for too long
other 4xx, other 5xx           neither: the client's doing, or said of the request
a good answer                  ends the row; heals what is ejected
============================== ===============================================================

::

                3 or 5 in a row
    nothing held ──────────────▶ ejected ◀─┐ bad probe: twice as long,
         ▲                          │      │ 1 s to 30 s
         │                          ▼      │
         └──── good probe ──────── due ────┘
         └──── good answer ───── at any time

An ejection lasts the longer the more came before it (Envoy's base_ejection_time times the number
of ejections; here doubling): an engine whose ``/health`` answers while its requests fail is tried
ever more seldom. The row of ejections ends when the last one is over for 60 s.

To be ejected means to be used last, when nothing else is left. So no share of the instances must
be spared, as Envoy's max_ejection_percent does: where all are ejected, all are used.
"""

from collections import deque
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from caravan.contracts.reports import InstanceUse

CONNECTIONS_IN_A_ROW = 3
"""Each costs its request a connect timeout or a retry; one or two may be a restart of a switch."""
FAILURES_IN_A_ROW = 5
"""A request that breaks every engine has two attempts: it alone ejects nothing."""
FIRST_S = 1.0
LONGEST_S = 30.0
"""So late, at most, is it noticed that an engine is well again."""
GOOD_WHILE_S = 60.0
"""Twice the longest ejection: what fails again within it has never been well."""
NEWS_KEPT = 256
"""Somebody reads them twice a second; when nobody does, the oldest go."""
_FAILURES = frozenset({500, 502, 504})


def is_failure(status: int) -> bool:
    """Tell whether an engine's answer with ``status`` is held against it."""
    return status in _FAILURES


class Seen(Struct, frozen=True):
    """What is held against one instance now."""

    ejected: bool
    failures: int
    """In a row."""
    life: str = ""
    """Of the incarnation that failed last."""


class News(Struct, frozen=True):
    """An instance was ejected, or has healed."""

    instance: str
    ejected: bool
    why: str
    for_s: float = 0.0
    """How long the ejection lasts before the first probe, in seconds."""


class _Held(Struct):
    life: str = ""
    failures: int = 0
    connections: int = 0
    """Failures in a row to connect."""
    due_at: float | None = None
    """When an ejected one is to be probed; None while it is not ejected."""


class _Past(Struct):
    ejections: int
    """In a row, bad probes included."""
    over_at: float
    """From then on they count no more."""


class Outliers:
    """What this router process holds against instances (keys of the bucket ``instances``).

    ``failed`` and ``good`` are told of every attempt's end but the neutral ones, ``probed`` of
    every probe of what is ``due``. All times are seconds on one steady clock. Nothing is kept of an
    instance that is well for a minute, or that ``forget`` was called for.
    """

    def __init__(self) -> None:
        self.ejections = 0
        """Since the process started, bad probes not included."""
        self._held: dict[str, _Held] = {}
        self._past: dict[str, _Past] = {}
        self._news: deque[News] = deque(maxlen=NEWS_KEPT)

    def failed(
        self, instance: str, now: float, *, connection: bool = False, why: str = "", life: str = ""
    ) -> bool:
        """Count a failed attempt; True when this ejects the instance now.

        ``connection``: there was none to be had, and the engine knows nothing of the request.
        ``life`` tells the instance's incarnations apart.
        """
        held = self._held.setdefault(instance, _Held())
        held.life = life
        held.failures += 1
        held.connections = held.connections + 1 if connection else 0
        if held.due_at is not None or not _too_many(held):
            return False
        self.ejections += 1
        for_s = self._eject(instance, held, now)
        self._news.append(News(instance, ejected=True, why=why, for_s=for_s))
        return True

    def good(self, instance: str) -> bool:
        """Note a good answer; True when this heals the instance. Hot: nearly never more than this
        one look-up."""
        if instance not in self._held:
            return False
        return self._heal(instance, "it answered a request")

    def ejected(self, instance: str) -> bool:
        """Tell whether the instance is to be used last."""
        held = self._held.get(instance)
        return held is not None and held.due_at is not None

    def due(self, now: float) -> list[str]:
        """Return which ejected instances are to be probed, those that wait longest first."""
        self._let_pass(now)
        found = [
            (held.due_at, instance)
            for instance, held in self._held.items()
            if held.due_at is not None and held.due_at <= now
        ]
        return [instance for _, instance in sorted(found)]

    def probed(self, instance: str, ok: bool, now: float) -> bool:  # noqa: FBT001 - the one thing a probe says
        """Take a probe's word; True when this heals the instance.

        A bad one ejects it for twice as long. Nothing, if it has healed meanwhile.
        """
        held = self._held.get(instance)
        if held is None or held.due_at is None:
            return False
        if ok:
            return self._heal(instance, "it answered a probe")
        self._eject(instance, held, now)
        return False

    def forget(self, instance: str) -> bool:
        """Drop all that is held: it is gone, or another life of it began. True: it was ejected."""
        self._past.pop(instance, None)
        return instance in self._held and self._heal(instance, "it is gone, or started anew")

    def seen(self) -> dict[str, Seen]:
        """Return what is held, by instance; for reports and metrics."""
        return {
            instance: Seen(held.due_at is not None, held.failures, held.life)
            for instance, held in self._held.items()
        }

    def news(self) -> list[News]:
        """Return, once, what has happened since the last call."""
        told = list(self._news)
        self._news.clear()
        return told

    def _eject(self, instance: str, held: _Held, now: float) -> float:
        past = self._past.get(instance)
        before = past.ejections if past is not None and now < past.over_at else 0
        for_s = _duration_s(before)
        held.due_at = now + for_s
        self._past[instance] = _Past(before + 1, held.due_at + GOOD_WHILE_S)
        return for_s

    def _heal(self, instance: str, why: str) -> bool:
        was_ejected = self._held.pop(instance).due_at is not None
        if was_ejected:
            self._news.append(News(instance, ejected=False, why=why))
        return was_ejected

    def _let_pass(self, now: float) -> None:
        over = [
            instance
            for instance, past in self._past.items()
            if past.over_at <= now and not self.ejected(instance)
        ]
        for instance in over:
            del self._past[instance]


def _too_many(held: _Held) -> bool:
    return held.connections >= CONNECTIONS_IN_A_ROW or held.failures >= FAILURES_IN_A_ROW


def _duration_s(before: int) -> float:
    """Return how long an ejection lasts after ``before`` others in a row."""
    return LONGEST_S if before >= 5 else FIRST_S * 2.0**before


def noted(uses: Mapping[str, InstanceUse], seen: Mapping[str, Seen]) -> dict[str, InstanceUse]:
    """Return a report's part for instances with what is held against them."""
    told = dict(uses)
    for instance, held in seen.items():
        use = told.get(instance) or InstanceUse()
        told[instance] = replace(use, ejected=held.ejected, failures=held.failures)
    return told
