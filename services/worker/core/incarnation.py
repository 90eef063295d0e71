"""Which of two workers of one instance is the newer one, decided by what stands in the bucket.

A worker reads the record at its start and takes the term after it. From then on it looks at each
renewal: a higher term means that it is the older one and has to go; a missing or a lower one means
that the bucket was emptied or an older worker wrote late, and it writes its own again.
Two workers may take the same term when the bucket is emptied between them. Incarnations are made
so that they sort by the moment of their start, and then the one that started last stays.
"""

from enum import Enum
from itertools import pairwise

from caravan.contracts.instances import Record


class Judgement(Enum):
    """What a worker does after it has looked."""

    KEEP = "keep"
    WRITE = "write"
    LEAVE = "leave"


def next_term(found: Record | None) -> int:
    """Return the term of a worker that finds ``found`` at its start."""
    return 1 if found is None else found.term + 1


def judge(mine: Record, found: Record | None) -> Judgement:
    """Tell what the worker that says ``mine`` does when it finds ``found``."""
    if found is None:
        return Judgement.WRITE
    if found.incarnation == mine.incarnation:
        return Judgement.KEEP if found == mine else Judgement.WRITE
    newer = (found.term, found.incarnation) > (mine.term, mine.incarnation)
    return Judgement.LEAVE if newer else Judgement.WRITE


def incarnation(started_ms: int, draw: int) -> str:
    """Return a UUID (version 7) of the moment ``started_ms`` and 74 random bits of ``draw``."""
    number = (started_ms & (2**48 - 1)) << 80 | 0x7 << 76
    number |= (draw >> 62 & 0xFFF) << 64 | 0b10 << 62 | draw & (2**62 - 1)
    digits = f"{number:032x}"
    cuts = (0, 8, 12, 16, 20, 32)
    return "-".join(digits[a:b] for a, b in pairwise(cuts))
