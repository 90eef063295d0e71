"""An engine's answer on its way to the client: what is passed on, changed or made good."""

from http import HTTPStatus

from services.router.api.reply import Reply
from services.router.core import engine_errors, http, sse
from services.router.core.attempts import Failure
from services.router.core.errors import EngineFailedError, Headers, envelope
from services.router.core.job import Job, Patience
from services.router.core.policies import Candidate
from services.router.core.ports import Answer, AttemptError
from services.router.core.story import COMPLETE, FAILED, TRUNCATED

FULL = frozenset({429, 502, 503, 504})
"""An engine that is full, starting or going: another one may do."""
BUFFERED = 256 * 2**10
"""So much of a plain answer is kept back, so that a break in it can still be made good."""
TAIL_S = 1.0
"""How long the end of an engine's stream may take after its ``[DONE]``."""


class Relay:
    """Passes answers on. Bytes pass as they come, but for errors and the usage event."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    async def pass_on(self, job: Job, chosen: Candidate, answer: Answer, reply: Reply) -> bool:
        """Pass ``answer`` on; tell whether it came to its good end.

        An AttemptError or a refusal that leaves here finds ``reply`` not yet started.
        """
        await self._check(job, answer)
        own: Headers = [(b"x-caravan-instance", chosen.instance.encode())]
        if answer.content_type.startswith("text/event-stream"):
            return await self._stream(job, answer, reply, own)
        own.append((b"content-type", answer.content_type.encode("latin-1")))
        return await self._plain(job, answer, reply, own)

    async def _check(self, job: Job, answer: Answer) -> None:
        """Raise what an answer that is none means."""
        if answer.status == HTTPStatus.OK:
            return
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise AttemptError(Failure.UNAUTHORIZED, "the engine does not know its record's key")
        if answer.status in FULL:
            raise AttemptError(
                Failure.REFUSED,
                f"the engine answered {answer.status}",
                retry_after_s=answer.retry_after_s,
            )
        if answer.status < HTTPStatus.BAD_REQUEST:
            raise AttemptError(Failure.BROKEN, f"the engine answered {answer.status}")
        body, _ = await self._beginning(answer)
        raise engine_errors.refusal(answer.status, engine_errors.read(body), job.asked.model)

    async def _plain(self, job: Job, answer: Answer, reply: Reply, own: Headers) -> bool:
        kept, whole = await self._beginning(answer)
        length = len(kept) if whole else answer.length
        if length is not None:
            own.append((b"content-length", str(length).encode()))
        await reply.start(HTTPStatus.OK, own)
        if whole:
            job.story.usage = sse.usage_in(kept)
            await reply.end(kept)
            job.story.outcome = COMPLETE
            return True
        await reply.write(kept)
        return await self._rest(job, answer, reply)

    async def _beginning(self, answer: Answer) -> tuple[bytes, bool]:
        """Return the answer's first bytes, and whether they are all."""
        kept, patience_s = bytearray(), self._patience.first_byte_s
        while len(kept) < BUFFERED:
            data = await answer.piece(patience_s)
            if not data:
                return bytes(kept), True
            kept += data
            patience_s = self._patience.between_s
        return bytes(kept), False

    async def _rest(self, job: Job, answer: Answer, reply: Reply) -> bool:
        try:
            while data := await answer.piece(self._patience.between_s):
                await reply.write(data)
        except AttemptError as exc:
            job.story.outcome, job.story.why = FAILED, exc.why
            reply.abort()
            return False
        await reply.end()
        job.story.outcome = COMPLETE
        return True

    async def _stream(self, job: Job, answer: Answer, reply: Reply, own: Headers) -> bool:
        stream = sse.EventStream(show_usage=job.asked.show_usage)
        held = await self._first_event(job, stream, answer)
        await reply.start(HTTPStatus.OK, own + http.EVENT_STREAM)
        await reply.write(held)
        job.story.why = await self._events(stream, answer, reply)
        job.story.usage = stream.usage
        if stream.complete:
            await reply.end()
            job.story.outcome = COMPLETE
            return True
        job.story.outcome = TRUNCATED
        await reply.end(stream.frame_end() + broken_off())
        return False

    async def _first_event(self, job: Job, stream: sse.EventStream, answer: Answer) -> bytes:
        """Return what the client gets first: SGLang refuses streams with 200 and an error event."""
        held = b""
        while not stream.begun:
            data = await answer.piece(self._patience.first_byte_s)
            held += stream.feed(data)
            if stream.error is not None and not stream.begun:
                self._raise_refused(job, engine_errors.read(stream.error))
            if not data:
                raise AttemptError(Failure.BROKEN, "the engine's stream ended before it began")
        return held

    def _raise_refused(self, job: Job, said: engine_errors.Said) -> None:
        status = said.status or HTTPStatus.INTERNAL_SERVER_ERROR
        if status in FULL:
            raise AttemptError(Failure.REFUSED, f"the engine refused the stream with {status}")
        raise engine_errors.refusal(status, said, job.asked.model)

    async def _events(self, stream: sse.EventStream, answer: Answer, reply: Reply) -> str:
        """Pass events on to the stream's end; return why it is not complete, if it is not."""
        try:
            while not stream.done and stream.error is None:
                data = await answer.piece(self._patience.between_s)
                if not data:
                    return "the engine ended its stream early"
                await reply.write(stream.feed(data))
            if stream.error is not None:
                return "the engine sent an error"  # its own words may quote a prompt
            while await answer.piece(
                TAIL_S
            ):  # to the end, so that the connection can be used again
                pass
        except AttemptError as exc:
            return "" if stream.complete else exc.why
        return ""


def broken_off() -> bytes:
    """Return the event that ends a stream which is not complete; no ``[DONE]`` follows it."""
    refusal = EngineFailedError("The answer broke off before its end. Send the request again.")
    return b"data: " + envelope(refusal) + b"\n\n"
