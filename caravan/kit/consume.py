"""Events of a stream, acknowledged in one place."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from caravan.kit.wire import decoder

E = TypeVar("E")
log = structlog.get_logger()


class RetryLater(Exception):  # noqa: N818 - an instruction, not an error
    """A handler asks to see the event again after ``delay_s``."""

    def __init__(self, delay_s: float = 1.0) -> None:
        super().__init__(f"retry in {delay_s} s")
        self.delay_s = delay_s


class Delivery(Protocol):
    """One event, delivered at least once."""

    @property
    def subject(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    def ack(self) -> Coroutine[Any, Any, None]: ...
    def nak(self, delay: float | None = None) -> Coroutine[Any, Any, None]: ...
    def term(self) -> Coroutine[Any, Any, None]: ...


async def consume(
    deliveries: AsyncIterator[Delivery],
    kind: type[E],
    handle: Callable[[E], Awaitable[None]],
    bury: Callable[[str, bytes], Awaitable[None]],
) -> None:
    """Ack what worked, bury what cannot be read, ask again for the rest."""
    read = decoder(kind)
    async for delivery in deliveries:
        try:
            await handle(read(delivery.data))
        except msgspec.DecodeError as exc:
            log.error("event.unreadable", subject=delivery.subject, error=str(exc))  # noqa: TRY400
            await bury(delivery.subject, delivery.data)
            await delivery.term()
        except RetryLater as exc:
            await delivery.nak(exc.delay_s)
        else:
            await delivery.ack()
