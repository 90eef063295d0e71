"""Ports of this machine."""

import socket

from caravan.contracts.errors import InvalidRequestError
from services.worker.core.errors import PortTakenError


def take(host: str, port: int) -> int:
    """Return ``port``, or one that is free when it is 0; refuse one that somebody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do it: connections of an earlier life that still wind down do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (PermissionError, OverflowError, socket.gaierror) as exc:
            message = f"WORKER_HOST={host}, WORKER_PORT={port} cannot be listened on: {exc}"
            raise InvalidRequestError(message, param="WORKER_PORT") from None
        except OSError as exc:
            why = f"port {port} of {host} cannot be had ({exc.strerror})"
            raise PortTakenError(
                f"{why}: free it or set WORKER_PORT=0", param="WORKER_PORT"
            ) from None
        return int(probe.getsockname()[1])
