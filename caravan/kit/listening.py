"""Listening sockets: a port of one process, or one that several share."""

import errno
import socket

from caravan.contracts.errors import InvalidRequestError, Refusal

BACKLOG = 2048


class PortTakenError(Refusal):
    code = "port_taken"


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Return a listening socket; ``PortTakenError`` when another process has the port.

    With ``reuse_port``, processes of this user that ask for the same share it: the kernel gives
    each connection to one of them.
    """
    sock = _bound(host, port, reuse_port=reuse_port)
    try:
        sock.listen(BACKLOG)
    except OSError as exc:  # two have bound it, and the other one was faster
        sock.close()
        raise _translated(exc, host, port) from exc
    sock.settimeout(0)
    return sock


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that has the port and takes no connections; ``PortTakenError`` as ``listen``.

    0 takes a free one. While it is open, ``listen(…, reuse_port=True)`` works beside it.
    """
    return _bound(host, port, reuse_port=False)


def _bound(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OverflowError as exc:
        sock.close()
        raise InvalidRequestError(f"{port} is no port: 1 to 65535 are.") from exc
    except OSError as exc:
        sock.close()
        raise _translated(exc, host, port) from exc
    return sock


def _translated(exc: OSError, host: str, port: int) -> Exception:
    if exc.errno == errno.EADDRINUSE:
        return PortTakenError(
            f"Port {port} on {host} is taken: stop what listens there, or choose another port."
        )
    if exc.errno in {errno.EADDRNOTAVAIL, errno.EACCES} or isinstance(exc, socket.gaierror):
        return PortTakenError(
            f"Port {port} on {host} cannot be opened ({exc.strerror}): choose another."
        )
    return exc
