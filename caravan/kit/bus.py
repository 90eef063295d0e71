"""The connection to NATS: made in the background, kept for ever, asked and published through."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, Self, TypeVar

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from caravan.contracts.errors import (
    InvalidRequestError,
    Problem,
    Refusal,
    RemoteRefusal,
    UnavailableError,
)
from caravan.contracts.topology import NATS_MINIMUM, Endpoint
from caravan.kit.client import LastingClient, soon
from caravan.kit.wire import decode, decoder

E = TypeVar("E")
log = structlog.get_logger()

ACTOR_HEADER = "Caravan-Actor"
ERROR_HEADER = "Nats-Service-Error"
ERROR_CODE_HEADER = "Nats-Service-Error-Code"
NOT_CONNECTED = "NATS does not answer: start it with `caravan up`, or check the NATS URL"
_REPEAT_LOG_S = 30.0


class NatsTooOldError(Refusal):
    code = "nats_too_old"


class Revealing(Protocol):
    """A secret that shows itself only when asked (``caravan.kit.settings.Secret``)."""

    def reveal(self) -> str: ...


class Bus:
    """One connection to NATS for one process.

    ``async with`` returns at once; the connection is made in the background and made again for
    ever. What was subscribed stays subscribed. Nothing that is asked or written waits in a buffer
    for a connection: it is refused with ``UnavailableError`` instead, so it cannot arrive late.
    Callbacks of ``on_reconnect`` and ``on_loss`` run in the event loop, must not block, and may
    repeat.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        seed: Revealing | None = None,
        inbox_prefix: str | None = None,
    ) -> None:
        self.url = url
        self.name = name
        self.client: Client = LastingClient()
        self.lost_at = 0.0
        """``time.monotonic()`` of the newest loss of the connection; 0.0 never."""
        self.back_at = 0.0
        """``time.monotonic()`` of the newest connection; 0.0 never."""
        self.unreadable = 0
        """Messages that could not be decoded, since the process started."""
        self._seed = seed
        self._inbox_prefix = inbox_prefix
        self._connecting: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._useless: Refusal | None = None  # why waiting for a connection is of no use
        self._back: list[Callable[[], None]] = []
        self._lost: list[Callable[[], None]] = []
        self._told = ("", 0.0)
        self._js: JetStreamContext | None = None

    async def __aenter__(self) -> Self:
        self._connecting = asyncio.create_task(self._begin(), name=f"nats {self.name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self._back.clear()
        self._lost.clear()
        await self.client.close()

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as this side knows."""
        return bool(self.client.is_connected)

    @property
    def js(self) -> JetStreamContext:
        """JetStream over this connection."""
        if self._js is None:
            self._js = JetStreamContext(self.client)
        return self._js

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` at each connection, the first included; return what ends that."""
        self._back.append(callback)
        return lambda: _forget(self._back, callback)

    def on_loss(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` whenever the connection is lost; return what ends that."""
        self._lost.append(callback)
        return lambda: _forget(self._lost, callback)

    async def established(self, timeout_s: float | None = None) -> None:
        """Wait until the bus is connected to a server that is new enough.

        ``UnavailableError`` after ``timeout_s``; ``NatsTooOldError`` when the server is too old;
        ``InvalidRequestError`` when URL or seed are none.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            message = f"no NATS at {_shown(self.url)} within {timeout_s:g} s: start `caravan up`"
            raise UnavailableError(message) from None
        if self._useless is not None:
            raise self._useless

    async def reachable(self, timeout_s: float | None = None) -> None:
        """Wait until the connection stands now; ``UnavailableError`` after ``timeout_s``."""
        back = asyncio.Event()
        end = self.on_reconnect(back.set)
        try:
            async with asyncio.timeout(timeout_s):
                await self.established()
                if not self.connected:
                    await back.wait()
        except TimeoutError:
            raise UnavailableError(NOT_CONNECTED) from None
        finally:
            end()

    async def ask(
        self,
        endpoint: Endpoint,
        request: msgspec.Struct,
        *,
        tenant: str = "",
        timeout_s: float = 5.0,
        actor: str = "",
    ) -> Any:  # noqa: ANN401 - ``endpoint.answer``
        """Return the answer of the service that owns ``endpoint``.

        ``RemoteRefusal`` carries the problem that it answered; ``UnavailableError`` says who does
        not answer. Neither tells whether a change was made: send it again with its ``request_id``.
        """
        headers = {ACTOR_HEADER: actor} if actor else None
        body = msgspec.json.encode(request)
        deadline = time.monotonic() + timeout_s
        await self.reachable(timeout_s)
        left = max(0.05, deadline - time.monotonic())
        try:
            reply = await self.client.request(endpoint.of(tenant), body, left, headers=headers)
        except nats.errors.NoRespondersError:
            message = f"the {endpoint.service} does not run: start it with `caravan up`"
            raise UnavailableError(message) from None
        except nats.errors.TimeoutError:
            message = (
                f"the {endpoint.service} did not answer within {timeout_s:g} s: "
                "ask again with the same request_id, and look at `caravan status`"
            )
            raise UnavailableError(message) from None
        except nats.errors.MaxPayloadError:
            raise InvalidRequestError("the request is larger than NATS carries") from None
        except (nats.errors.Error, OSError):
            raise UnavailableError(NOT_CONNECTED) from None
        return _answer(endpoint, reply)

    async def publish(self, subject: str, value: msgspec.Struct) -> None:
        """Publish on core NATS; dropped silently when not connected, never buffered."""
        if not self.connected:
            return
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.client.publish(subject, msgspec.json.encode(value))

    async def subscribe(
        self, subject: str, kind: type[E], handle: Callable[[E], Awaitable[None] | None]
    ) -> Callable[[], Awaitable[None]]:
        """Hand every message on ``subject`` to ``handle``, in order; return what ends that.

        Waits for the first connection and lasts over the later ones. A message that cannot be
        decoded is counted and logged; one whose handling fails is logged with its traceback.
        """
        read = decoder(kind)

        async def hear(message: Msg) -> None:
            try:
                value = read(message.data)
            except msgspec.DecodeError as exc:
                self.unreadable += 1
                log.warning("bus.unreadable", subject=message.subject, error=str(exc))
                return
            if (waiting := handle(value)) is not None:
                await waiting

        await self.established()
        subscription = await self.client.subscribe(subject, cb=hear)

        async def end() -> None:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

        return end

    async def _begin(self) -> None:
        """Connect for the first time; what no waiting mends is told by ``established``."""
        try:
            await self._connect()
        except (ValueError, ImportError, nats.errors.Error) as exc:
            message = f"the NATS URL or seed cannot be used: {_words(exc)}"
            self._useless = InvalidRequestError(message, param="nats_url")
            self._up.set()

    async def _connect(self) -> None:
        options: dict[str, Any] = {}
        if self._seed is not None:
            options["nkeys_seed_str"] = self._seed.reveal()
        if self._inbox_prefix is not None:
            options["inbox_prefix"] = self._inbox_prefix
        await self.client.connect(
            self.url,
            name=self.name,
            error_cb=self._tell,
            disconnected_cb=self._went,
            reconnected_cb=self._came,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type] # slept as it is; a float is fine
            reconnect_to_server_handler=soon,
            ping_interval=10,
            max_outstanding_pings=2,
            connect_timeout=2,
            **options,
        )
        await self._came()

    async def _came(self) -> None:
        self.back_at = time.monotonic()
        self._told = ("", 0.0)
        self._useless = _too_old(self.client, self.url)
        if self._useless is not None:
            log.error("bus.too_old", error=str(self._useless))
        log.info("bus.connected", url=_shown(self.url))
        self._up.set()
        for callback in list(self._back):
            callback()

    async def _went(self) -> None:
        if self.client.is_closed:
            return
        self.lost_at = time.monotonic()
        log.warning("bus.lost", url=_shown(self.url), error=_words(self.client.last_error))
        for callback in list(self._lost):
            callback()

    async def _tell(self, error: Exception) -> None:
        """Log what nats-py tells, one line each; the same line again only every 30 s."""
        words, now = _words(error), time.monotonic()
        if not isinstance(error, (nats.errors.Error, OSError, TimeoutError)):
            log.error("bus.handler_failed", exc_info=error)
            return
        if words == self._told[0] and now < self._told[1] + _REPEAT_LOG_S:
            return
        self._told = (words, now)
        log.warning("bus.error", url=_shown(self.url), error=words)


def _answer(endpoint: Endpoint, reply: Msg) -> Any:  # noqa: ANN401 - ``endpoint.answer``
    """Return the answer in ``reply``, or raise the refusal that it is."""
    code = (reply.headers or {}).get(ERROR_CODE_HEADER)
    try:
        if code is None:
            return decode(reply.data, endpoint.answer)
        raise RemoteRefusal(decode(reply.data, Problem))
    except msgspec.DecodeError:
        words = (reply.headers or {}).get(ERROR_HEADER) or "something that cannot be read"
        message = f"the {endpoint.service} answered {words}: is it of the same version?"
        raise RemoteRefusal(Problem(code="internal_error", message=message)) from None


def _too_old(client: Client, url: str) -> NatsTooOldError | None:
    version = client.connected_server_version
    if (version.major, version.minor) >= NATS_MINIMUM:
        return None
    least = ".".join(map(str, NATS_MINIMUM))
    return NatsTooOldError(
        f"NATS at {_shown(url)} is {version.major}.{version.minor}; "
        f"Caravan needs {least} or newer: upgrade it, or let `caravan up` start its own"
    )


def _forget(callbacks: list[Callable[[], None]], callback: Callable[[], None]) -> None:
    with contextlib.suppress(ValueError):
        callbacks.remove(callback)


def _words(error: Exception | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _shown(url: str) -> str:
    """Return ``url`` without the user and the password that it may hold."""
    scheme, slashes, rest = url.rpartition("://")
    return scheme + slashes + rest.rpartition("@")[2]
