"""The NATS client as Caravan needs it: it never gives up, and it ends when it is told to."""

import asyncio
import random
from collections.abc import Awaitable
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import DEFAULT_FLUSH_TIMEOUT, Client, Server
from nats.aio.msg import Msg

T = TypeVar("T")


async def heeding(work: Awaitable[T]) -> T:
    """Do ``work``; a cancellation that it lost is raised when it is done, however it ended.

    ``asyncio.wait_for`` of Python 3.11, which nats-py is full of, returns its result when a
    cancellation meets it: the task goes on, and whoever waits for its end waits for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        return await work
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


class LastingClient(Client):
    """A NATS client which an error that the server sends never closes for good.

    nats-py gives up on all of them but ``Stale Connection``; what a person mends on the server
    (a user, a limit) would then need every service restarted. All that JetStream asks goes
    through ``request``.
    """

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,
        old_style: bool = False,  # noqa: FBT001, FBT002 - as nats-py has it
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        return await heeding(super().request(subject, payload, timeout, old_style, headers))

    async def flush(self, timeout: int = DEFAULT_FLUSH_TIMEOUT) -> None:
        await heeding(super().flush(timeout))

    async def close(self) -> None:
        """Close the connection, if there ever was an attempt to make one."""
        if self._flush_queue is None:
            return
        try:
            await super().close()
        except OSError:  # the server went in the same moment: what was unsent has nowhere to go
            self._pending, self._pending_data_size = [], 0
            self._status = Client.DISCONNECTED
            await super().close()

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg.lower():
            await super()._process_err(err_msg)
            return
        error = nats.errors.Error(f"nats: {err_msg.strip()}")
        await self._error_cb(error)
        await self._process_op_err(error)


def soon(servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
    """Try again in a moment; the jitter keeps a platform's clients apart."""
    return random.choice(servers), random.uniform(0.1, 0.5)  # noqa: S311 - no secret
