"""One SGLang, started and asked over HTTP with its own key."""

import math

import aiohttp
import msgspec
from msgspec import Struct

from caravan.contracts.deployments import EMBEDDING
from services.worker.adapters.process import EngineProcess, Launch
from services.worker.core.flags import Place
from services.worker.core.load import Load, Loads, combined
from services.worker.core.ports import Model, NoAnswerError

_LOAD_TIMEOUT = aiohttp.ClientTimeout(total=2)
_PROMPT = "Hello"


class Choice(Struct, frozen=True):
    text: str = ""


class Usage(Struct, frozen=True):
    completion_tokens: int = 0


class Completion(Struct, frozen=True):
    choices: list[Choice]
    usage: Usage = Usage()


class Vector(Struct, frozen=True):
    embedding: list[float]


class Vectors(Struct, frozen=True):
    data: list[Vector]


class Card(Struct, frozen=True):
    id: str
    max_model_len: int | None = None


class Cards(Struct, frozen=True):
    data: list[Card]


class SGLang:
    """An engine that is started by ``launch`` and serves ``served`` at ``place``.

    Made before anything runs; ``start`` comes once and before the others; after ``close`` it can
    be asked no more. Closing does not end the process.
    """

    def __init__(self, launch: Launch, place: Place, served: str, task: str) -> None:
        self._launch = launch
        self._served = served
        self._task = task
        self._process: EngineProcess | None = None
        self._http = aiohttp.ClientSession(
            place.url,
            headers={"Authorization": f"Bearer {place.key}"},
            connector=aiohttp.TCPConnector(limit=4),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=2),
        )

    def start(self) -> None:
        """Start the process; ``InvalidRequestError`` when there is no such command."""
        self._process = EngineProcess(self._launch)

    async def exited(self) -> str:
        """Wait for its end and return how it ended, in words."""
        return await self._started.exited()

    async def stop(self, patience_s: float) -> None:
        """Ask it to end, and kill it when it takes longer than ``patience_s``."""
        await self._started.stop(patience_s)

    def kill(self) -> None:
        """End it and all that it started, at once; may repeat, also when it never was started."""
        if self._process is not None:
            self._process.kill()

    def last_lines(self) -> list[str]:
        """Return the end of what it printed."""
        return [] if self._process is None else self._process.output.last_lines()

    async def close(self) -> None:
        """Close the connections to it."""
        await self._http.close()

    async def answer(self) -> Model:
        """Have it make one token, or one vector, and return what it says of the model.

        ``NoAnswerError`` when it does not. Waits as long as it takes: how long is too long, the
        life decides.
        """
        try:
            await (self._embed() if self._task == EMBEDDING else self._complete())
            length = await self._listed_length()
            load = await self.load()
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as exc:
            raise NoAnswerError(str(exc) or type(exc).__name__) from None
        return Model(max_model_len=length, max_running=load.max_running if load else 0)

    async def load(self) -> Load | None:
        """Return its load; None when it does not say within 2 s."""
        try:
            async with self._http.get("/v1/loads?include=core", timeout=_LOAD_TIMEOUT) as answer:
                if answer.status != 200:
                    return None
                return combined(msgspec.json.decode(await answer.read(), type=Loads).loads)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError):
            return None

    @property
    def _started(self) -> EngineProcess:
        assert self._process is not None, "an engine is started before it is asked"
        return self._process

    async def _complete(self) -> None:
        body = {"model": self._served, "prompt": _PROMPT, "max_tokens": 1, "temperature": 0}
        data = await self._ask("POST", "/v1/completions", body)
        answer = msgspec.json.decode(data, type=Completion)
        if not answer.choices or not (answer.usage.completion_tokens or answer.choices[0].text):
            raise NoAnswerError("its answer holds no token")

    async def _embed(self) -> None:
        data = await self._ask("POST", "/v1/embeddings", {"model": self._served, "input": _PROMPT})
        vectors = msgspec.json.decode(data, type=Vectors).data
        if not vectors or not vectors[0].embedding:
            raise NoAnswerError("its answer holds no vector")
        if not all(map(math.isfinite, vectors[0].embedding)):
            raise NoAnswerError("its vector is not made of numbers")

    async def _listed_length(self) -> int:
        """Return the model's length in tokens; an engine that lists another name is not ours."""
        cards = msgspec.json.decode(await self._ask("GET", "/v1/models", None), type=Cards).data
        for card in cards:
            if card.id == self._served:
                return card.max_model_len or 0
        raise NoAnswerError(f"it serves {', '.join(card.id for card in cards) or 'nothing'}")

    async def _ask(self, method: str, path: str, body: object) -> bytes:
        async with self._http.request(method, path, json=body) as answer:
            data = await answer.read()
            if answer.status != 200:
                raise NoAnswerError(f"{path} says {answer.status}: {data[:200]!r}")
            return data
