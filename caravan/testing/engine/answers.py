"""What the fake says: known beforehand, and its end shows whether all of it came."""

import hashlib
import math
import re
import struct
from collections.abc import Sequence
from itertools import cycle, islice

from msgspec import Struct

TOKENS = 16
"""Tokens of an answer that nobody asked to be shorter or longer."""
END_TOKEN = 258
"""The token that ends an answer; it is counted and says nothing."""

_NUMBERED = re.compile(r"(\d+)/(\d+):\S+")


class Answer(Struct, frozen=True):
    """The tokens of one choice; the text of one that ends by itself closes with an empty piece."""

    pieces: list[str]
    finish_reason: str
    matched_stop: int | str | None

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


def spoken(prompt: str, tokens: int = TOKENS, *, limit: int | None = None) -> str:
    """Return the text that answers ``prompt``: its words in turn, each with its number.

    ``spoken("Say hello", 4)`` is ``"1/3:Say 2/3:hello 3/3:Say "``: of ``tokens`` the last one is
    the end. ``limit`` is the request's ``max_tokens``.
    """
    return answer(prompt, tokens, limit=limit).text


def is_whole(text: str) -> bool:
    """Tell whether ``text`` is an answer of which no word is missing, doubled or out of order."""
    said = text.split()
    numbers = [_NUMBERED.fullmatch(word) for word in said]
    found = [(int(number[1]), int(number[2])) for number in numbers if number]
    return bool(said) and found == [(i + 1, len(said)) for i in range(len(said))]


def answer(
    prompt: str,
    tokens: int = TOKENS,
    *,
    limit: int | None = None,
    stops: Sequence[str] = (),
    endless: bool = False,
) -> Answer:
    """Return what is said to ``prompt``; an ``endless`` one goes on to its ``limit``."""
    cut_off = limit is not None and (endless or limit < tokens)
    count = limit if limit is not None and cut_off else max(tokens, 1) - 1
    said = islice(cycle(prompt.split() or ["nothing"]), count)
    pieces = [f"{number}/{count}:{word} " for number, word in enumerate(said, start=1)]
    if stopped := _stopped(pieces, stops):
        return stopped
    if cut_off:
        return Answer(pieces, "length", None)
    return Answer([*pieces, ""], "stop", END_TOKEN)


def _stopped(pieces: Sequence[str], stops: Sequence[str]) -> Answer | None:
    """Return the answer up to the first of ``stops``, which itself is not said."""
    text = "".join(pieces)
    places = sorted((text.find(stop), stop) for stop in stops if stop and stop in text)
    if not places:
        return None
    room, stop = places[0]
    said: list[str] = []
    for piece in pieces:
        said.append(piece[:room])
        room -= len(piece)
        if room < 0:
            break
    return Answer(said, "stop", stop)


def vector(text: str, size: int) -> list[float]:
    """Return ``size`` numbers of length 1 together, the same ones for the same ``text``."""
    seed = hashlib.shake_256(text.encode()).digest(4 * size)
    numbers = [number / 2**31 for number in struct.unpack(f"<{size}i", seed)]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]
