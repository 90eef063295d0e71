"""How an answer of text is told: the same tokens, in the form of one API or another."""

from http import HTTPStatus
from typing import Protocol

from caravan.testing.engine import bodies
from caravan.testing.engine.answers import Answer
from caravan.testing.engine.asked import Ask
from caravan.testing.engine.bodies import Body
from caravan.testing.engine.errors import RefusedError


class Voice(Protocol):
    """Tells one answer. A stream is ``greeting``, ``first``, ``piece`` by piece, ``last``."""

    def whole(self, answers: list[Answer], cached: int) -> Body:
        """A plain answer."""

    def greeting(self) -> bytes:
        """What a stream says before its request waits for its turn."""

    def first(self, index: int, cached: int) -> bytes:
        """What stands before the first token of a choice."""

    def piece(self, index: int, text: str, used: Body | None, end: Answer | None) -> bytes:
        """One token; ``end`` is its choice's answer when it is the last one."""

    def last(self, used: Body) -> bytes:
        """What ends a stream; ``used`` as :func:`bodies.usage` has it."""

    def refuses_inside(self, refused: RefusedError) -> bool:
        """Tell whether a stream says so in itself, with status 200."""

    def refusal(self, refused: RefusedError) -> RefusedError:
        """What a plain request hears of ``refused``."""

    def failure(self, refused: RefusedError, *, begun: bool) -> bytes:
        """What ends a stream that fails; ``begun`` when it has said a token."""


class MakeVoice(Protocol):
    """Makes the voice of one answer."""

    def __call__(self, ask: Ask, rid: str, *, usage: bool) -> Voice: ...


class Chat:
    """Chat completions and completions."""

    def __init__(self, ask: Ask, rid: str, *, usage: bool) -> None:
        self._ask, self._rid, self._usage = ask, rid, usage
        self._chunks = bodies.Chunks(ask, rid)

    def whole(self, answers: list[Answer], cached: int) -> Body:
        """Every choice, and the tokens."""
        return bodies.whole(self._ask, self._rid, answers, cached)

    def greeting(self) -> bytes:
        """Nothing."""
        return b""

    def first(self, index: int, cached: int) -> bytes:
        """The role, in a chat."""
        del cached
        return self._chunks.role(index) if self._ask.chat else b""

    def piece(self, index: int, text: str, used: Body | None, end: Answer | None) -> bytes:
        """One event, or two at the end of a chat."""
        return self._chunks.piece(index, text, used, end)

    def last(self, used: Body) -> bytes:
        """The usage, if it is wanted, and ``[DONE]``."""
        return (self._chunks.usage(used) if self._usage else b"") + bodies.DONE

    def refuses_inside(self, refused: RefusedError) -> bool:
        """It does when it is full, and when it fails."""
        return refused.status in {500, 503}

    def refusal(self, refused: RefusedError) -> RefusedError:
        """The same."""
        return refused

    def failure(self, refused: RefusedError, *, begun: bool) -> bytes:
        """An error event, and ``[DONE]`` all the same."""
        name = HTTPStatus(refused.status).name
        event = bodies.error_event(refused.message, name, refused.status)
        usage = self._chunks.usage(bodies.usage(0, 0, 0)) if self._usage and not begun else b""
        return event + usage + bodies.DONE
