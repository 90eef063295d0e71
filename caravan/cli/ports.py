"""Ports of this machine: the one that was asked for, or one that is free."""

import random
import socket

from caravan.cli.errors import PortTakenError
from caravan.cli.programs import HOST
from caravan.contracts.errors import InvalidRequestError

QUIET = range(20000, 30000)
"""Below the ports that outgoing connections take: one that was free stays free for a restart."""


def free(port: int) -> bool:
    """Tell whether nobody listens on ``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def quiet() -> int:
    """Return a free port that nobody has heard of."""
    while not free(port := random.choice(QUIET)):  # noqa: S311 - no secret
        pass
    return port


def choose(option: str, asked: int | None, known: int, default: int, *, runs: bool) -> int:
    """Return the port of a part.

    ``asked`` for by ``option``, else the one that is ``known`` from before, else ``default`` or
    the next free one. A part that ``runs`` keeps its port.
    """
    if asked is not None and not 0 < asked < 2**16:
        raise InvalidRequestError(f"{asked} is no port: give {option} 1 to 65535.", param=option)
    if runs and known:
        if asked not in (None, known):
            raise InvalidRequestError(
                f"It runs on port {known} already: `caravan down` first, then {option} {asked}.",
                param=option,
            )
        return known
    if asked is not None:
        if not free(asked):
            raise PortTakenError(
                f"Port {asked} is in use: end what listens there, or give {option} another.",
                param=option,
            )
        return asked
    if known and free(known):
        return known
    return next(port for port in range(default, 2**16) if free(port))


def row(known: int, default: int, count: int, *, runs: bool) -> int:
    """Return the first of ``count`` free ports in a row: those ``known``, else from ``default`` on.

    A part that ``runs`` keeps its ports.
    """
    if known and (runs or _free_row(known, count)):
        return known
    return next(port for port in range(default, 2**16) if _free_row(port, count))


def _free_row(first: int, count: int) -> bool:
    return first + count <= 2**16 and all(free(port) for port in range(first, first + count))
