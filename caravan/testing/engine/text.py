"""Answers of text, as streams and plain, in the form that a voice gives them."""

from caravan.testing.engine import bodies
from caravan.testing.engine.answers import Answer, answer
from caravan.testing.engine.asked import Ask
from caravan.testing.engine.errors import AbortedError, BrokenOffError, PlannedError, RefusedError
from caravan.testing.engine.pace import Pace, crash
from caravan.testing.engine.plan import Plan
from caravan.testing.engine.slots import FULL, FullError
from caravan.testing.engine.state import State
from caravan.testing.engine.voices import MakeVoice, Voice
from caravan.testing.engine.wire import Reply


async def reply_text(state: State, ask: Ask, reply: Reply, make: MakeVoice) -> None:
    """Answer ``ask``; raises :class:`RefusedError` before anything is sent."""
    if state.options.is_embedding:  # nobody would think so, but it is what 0.5.21 does
        crash("AttributeError: 'LogitsProcessorOutput' object has no attribute 'embeddings'")
    plan = state.plan.over(ask.changes)
    usage = ask.usage or state.options.stream_response_default_include_usage
    with state.open_request(ask.rid) as (rid, aborted):
        telling = _Telling(state, ask, reply, make(ask, rid, usage=usage))
        try:
            room = _room(state, ask)
            plan.check_status()
            await telling.greet()
            async with state.slots.one():
                await telling.run(plan, Pace(plan, reply, aborted), room)
        except FullError:
            await telling.refuse(RefusedError(FULL, "503", 503))
        except RefusedError as refused:
            await telling.refuse(refused)
        except BrokenOffError:
            return


def _room(state: State, ask: Ask) -> int:
    """Return how many tokens fit behind the prompt."""
    most = state.options.context_length or state.model.max_position_embeddings
    if ask.prompt_tokens >= most:
        raise RefusedError(
            f"The input ({ask.prompt_tokens} tokens) is longer than the model's context length"
            f" ({most} tokens)."
        )
    if ask.limit is not None and ask.limit < 0:
        raise RefusedError(f"max_new_tokens must be at least 0, got {ask.limit}.")
    if ask.limit is not None and not ask.clipped and ask.prompt_tokens + ask.limit > most:
        raise RefusedError(
            f"Requested token count exceeds the model's maximum context length of {most} tokens."
            f" You requested a total of {ask.prompt_tokens + ask.limit} tokens: {ask.prompt_tokens}"
            f" tokens from the input messages and {ask.limit} tokens for the completion. Please"
            " reduce the number of tokens in the input messages or the completion to fit within the"
            " limit."
        )
    return most - ask.prompt_tokens


class _Telling:
    def __init__(self, state: State, ask: Ask, reply: Reply, voice: Voice) -> None:
        self._load, self._ask, self._reply, self._voice = state.load, ask, reply, voice
        self._said = self._cached = 0

    async def greet(self) -> None:
        """Say what comes before the request waits for its turn."""
        if self._ask.stream and (greeting := self._voice.greeting()):
            await self._reply.write(greeting)

    async def run(self, plan: Plan, pace: Pace, room: int) -> None:
        """Say the whole answer, or as much as the plan allows; ``room`` tokens fit."""
        ask = self._ask
        self._cached = self._load.prompt(ask.first_words, ask.prompt_tokens)
        self._load.held += ask.prompt_tokens
        limit = room if ask.limit is None else min(ask.limit, room)
        prompts = [prompt for prompt in ask.prompts for _ in range(ask.n)]
        answers = [
            answer(prompt, plan.tokens, limit=limit, stops=ask.stops, endless=ask.endless)
            for prompt in prompts
        ]
        try:
            await (self._stream if ask.stream else self._plain)(answers, pace)
        except PlannedError as error:
            raise RefusedError("planned by the test", "500", 500) from error
        finally:
            self._load.held -= ask.prompt_tokens + self._said

    async def refuse(self, refused: RefusedError) -> None:
        """Say no: inside a stream of status 200 where SGLang does so."""
        inside = self._reply.begun or self._voice.refuses_inside(refused)
        if not (self._ask.stream and inside):
            raise self._voice.refusal(refused)
        await self._reply.write(self._voice.failure(refused, begun=bool(self._said)))
        self._reply.end()

    async def _plain(self, answers: list[Answer], pace: Pace) -> None:
        try:
            await self._pieces(answers, pace)
        except AbortedError:
            answers = [Answer(each.pieces[: self._said], "abort", None) for each in answers]
        self._reply.send(200, self._voice.whole(answers, self._cached))

    async def _pieces(self, answers: list[Answer], pace: Pace) -> None:
        longest = max(len(each.pieces) for each in answers)
        for number in range(longest):
            await pace.frame(number)
            for _ in (each for each in answers if number < len(each.pieces)):
                self._count()
        await pace.frame(longest)

    async def _stream(self, answers: list[Answer], pace: Pace) -> None:
        try:
            await self._events(answers, pace)
        except AbortedError:
            ended = Answer([], "abort", None)
            for index in range(len(answers)):
                await self._reply.write(self._voice.piece(index, "", None, ended))
        used = bodies.usage(self._ask.prompt_tokens, self._said, self._cached)
        await self._reply.write(self._voice.last(used))
        self._reply.end()

    async def _events(self, answers: list[Answer], pace: Pace) -> None:
        longest = max(1, *(len(each.pieces) for each in answers))
        for number in range(longest):
            await pace.frame(number)
            frames = [
                self._event(index, number, each)
                for index, each in enumerate(answers)
                if number < max(len(each.pieces), 1)
            ]
            await self._reply.write(b"".join(frames))
        await pace.frame(longest)

    def _event(self, index: int, number: int, each: Answer) -> bytes:
        """Return token ``number`` of a choice, with what stands before and behind it."""
        last = number + 1 >= len(each.pieces)
        text = each.pieces[number] if each.pieces else ""
        if each.pieces:
            self._count()
        if number == 0 and self._ask.echo:
            text = self._ask.prompts[index // self._ask.n] + text
        used = None
        if self._ask.usage_each:
            cached = self._cached if self._ask.chat else 0
            used = bodies.usage(self._ask.prompt_tokens, number + 1, cached)
        first = self._voice.first(index, self._cached) if number == 0 else b""
        return first + self._voice.piece(index, text, used, each if last else None)

    def _count(self) -> None:
        self._said += 1
        self._load.token()
