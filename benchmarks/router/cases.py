"""What is asked of each router: the cases, by name."""

import re

from msgspec import Struct

DEFAULT = ("A1", "A32", "A256", "B32", "B32n", "B32e", "C4", "C200", "C1000", "D8")
TOKENS = 64
IMAGE_BYTES = 1_000_000
C_PACE_MS = 10
CROWD = 500
"""More paced streams than this begin spread over twice the length of a stream."""
_NAME = re.compile(r"(?P<kind>[ABCD])(?P<connections>[1-9]\d{0,4})(?P<variant>[ne]?)")
_SECONDS = {"A": 6.0, "B": 5.0, "C": 6.0, "D": 5.0}


class Case(Struct, frozen=True, kw_only=True):
    """One kind of load. Times are of the load client, see ``loadgen.c``."""

    name: str
    title: str
    connections: int
    seconds: float
    stream: bool = False
    pace_ms: int = 0
    """0: all events in one write; 1: one write each; else milliseconds between two."""
    usage: bool = True
    """Whether a stream's client asks for usage."""
    image_bytes: int = 0
    tokens: int = TOKENS
    """Content chunks of a stream."""
    ramp_ms: int = 0
    warm_ms: int = 0

    @property
    def paced(self) -> bool:
        return self.pace_ms > 1


def case(name: str, *, scale: float = 1.0, tokens: int = TOKENS) -> Case:
    """Return the case ``name``: a letter, the connections, and for B perhaps a variant.

    ``scale`` shortens or lengthens it. ``ValueError`` when there is no such case.
    """
    found = _NAME.fullmatch(name)
    if found is None or (found["variant"] and found["kind"] != "B"):
        raise ValueError(f"there is no case {name!r}: use e.g. {', '.join(DEFAULT)}, C50, A100")
    seconds = max(1.0, _SECONDS[found["kind"]] * scale)
    connections = int(found["connections"])
    many = f"{connections} connection{'s' if connections > 1 else ''}"
    match found["kind"], found["variant"]:
        case ("A", _):
            title = f"plain answers of 0.7 KB, {many}"
            return Case(name=name, title=title, connections=connections, seconds=seconds)
        case ("D", _):
            return Case(
                name=name,
                title=f"plain answers to bodies with a 1 MB image, {many}",
                connections=connections,
                seconds=seconds,
                image_bytes=IMAGE_BYTES,
            )
        case ("B", variant):
            said = {"": "", "n": ", usage not asked for", "e": ", one write an event"}[variant]
            return Case(
                name=name,
                title=f"{tokens}-chunk streams at full speed, {many}{said}",
                connections=connections,
                seconds=seconds,
                stream=True,
                pace_ms=int(variant == "e"),
                usage=variant != "n",
                tokens=tokens,
                warm_ms=min(500, int(seconds * 500)),
            )
        case _:
            return _paced(name, connections, seconds, tokens)


def _paced(name: str, connections: int, seconds: float, tokens: int) -> Case:
    stream_ms = tokens * C_PACE_MS
    ramp_ms = stream_ms * (2 if connections > CROWD else 1)
    warm_ms = 2 * ramp_ms + 20
    return Case(
        name=name,
        title=f"{tokens}-chunk streams, a chunk every {C_PACE_MS} ms, {connections} at once",
        connections=connections,
        seconds=max(seconds, warm_ms / 1000 + 0.5),
        stream=True,
        pace_ms=C_PACE_MS,
        tokens=tokens,
        ramp_ms=ramp_ms,
        warm_ms=warm_ms,
    )
