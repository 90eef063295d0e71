"""The NATS client as Caravan needs it: it never gives up."""

import random
from typing import Any

import nats.errors
from nats.aio.client import Client, Server


class LastingClient(Client):
    """A NATS client which an error that the server sends never closes for good.

    nats-py gives up on all of them but ``Stale Connection``; what a person mends on the server
    (a user, a limit) would then need every service restarted.
    """

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
