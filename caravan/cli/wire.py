"""The part of NATS that a command needs: one blocking connection, requests and their answers.

nats-py and asyncio take longer to import than a whole ``caravan list`` may take to run; a request
and its answer are four verbs of a text protocol.
"""

import os
import re
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from caravan.cli.errors import NatsTooOldError
from caravan.contracts import topology
from caravan.contracts.errors import UnavailableError

_CONNECT_S = 3.0
_NO_RESPONDERS = 503


class ServerInfo(Struct, frozen=True):
    """What a server says of itself when somebody connects."""

    version: str = "0.0.0"
    tls_required: bool = False
    jetstream: bool = False


class Reply(Struct, frozen=True):
    """An answer: its headers and its payload."""

    headers: Mapping[str, str]
    data: bytes
    status: int = 0


class NoRespondersError(Exception):
    """Nobody listens on the subject."""


class SlowReplyError(Exception):
    """No answer came in time; whether the request arrived is not known."""


class Wire:
    """One connection to NATS, made when it is constructed; closed by ``with``.

    Raises ``UnavailableError`` when the server is not there, goes away or does not let us in, and
    ``NatsTooOldError``.
    """

    def __init__(self, url: str) -> None:
        self.url = plain(url)
        self._inbox = f"_INBOX.{os.urandom(12).hex()}"
        self._asked = 0
        self._buffer = bytearray()
        self._socket = self._dial(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; may be called again."""
        self._socket.close()

    def request(
        self, subject: str, payload: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> Reply:
        """Return the first answer; NoRespondersError, or SlowReplyError after ``timeout_s``."""
        self._asked += 1
        inbox = f"{self._inbox}.{self._asked}"
        head = b"NATS/1.0\r\n"
        head += b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
        head += b"\r\n"
        sizes = f"{len(head)} {len(head) + len(payload)}"
        self._send(f"HPUB {subject} {inbox} {sizes}\r\n".encode() + head + payload + b"\r\n")
        deadline = time.monotonic() + timeout_s
        while True:
            found, reply = self._message(deadline)
            if found != inbox:
                continue  # the late answer of an earlier request
            if reply.status == _NO_RESPONDERS:
                raise NoRespondersError(subject)
            return reply

    def _dial(self, url: str) -> socket.socket:
        parts = urlsplit(url if "//" in url else f"nats://{url}")
        host, port = parts.hostname or "127.0.0.1", parts.port or 4222
        try:
            self._socket = socket.create_connection((host, port), timeout=_CONNECT_S)
        except OSError as error:
            raise self._gone(error) from error
        try:
            self._greet(parts.scheme, host, _credentials(parts.username, parts.password))
        except BaseException:
            self._socket.close()
            raise
        return self._socket

    def _greet(self, scheme: str, host: str, credentials: Mapping[str, str]) -> None:
        deadline = time.monotonic() + _CONNECT_S
        try:
            info = self._info(self._line(deadline))
        except SlowReplyError as error:
            raise self._gone(error) from error
        check_version(info.version, self.url)
        if info.tls_required or scheme == "tls":
            import ssl  # noqa: PLC0415 - few need it, and it takes 20 ms

            context = ssl.create_default_context()
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        hello: dict[str, object] = {
            "verbose": False,
            "headers": True,
            "no_responders": True,
            "protocol": 1,
        }
        hello |= {"name": "caravan", "lang": "python", "version": "0.1.0", **credentials}
        self._send(b"CONNECT " + msgspec.json.encode(hello) + b"\r\n")
        self._send(f"SUB {self._inbox}.* 1\r\nPING\r\n".encode())
        while self._line(deadline) != b"PONG":
            pass

    def _info(self, line: bytes) -> ServerInfo:
        verb, _, body = line.partition(b" ")
        try:
            return msgspec.json.decode(body if verb == b"INFO" else b"", type=ServerInfo)
        except msgspec.DecodeError as error:
            raise UnavailableError(f"What answers at {self.url} is no NATS server.") from error

    def _message(self, deadline: float) -> tuple[str, Reply]:
        """Return the next message: its subject and itself."""
        while True:
            words = self._line(deadline).decode().split()
            if words[:1] == ["MSG"]:
                return words[1], Reply({}, self._exactly(int(words[-1]), deadline))
            if words[:1] == ["HMSG"]:
                head, total = int(words[-2]), int(words[-1])
                data = self._exactly(total, deadline)
                return words[1], _with_headers(data[:head], data[head:])

    def _line(self, deadline: float) -> bytes:
        """Return the next line that is not about the connection itself."""
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                self._receive(deadline)
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            if line == b"PING":
                self._send(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                said = line[4:].decode(errors="replace").strip(" '")
                raise UnavailableError(f"NATS at {self.url} says: {said}.")
            elif line != b"+OK":
                return line

    def _exactly(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size + 2:
            self._receive(deadline)
        data = bytes(self._buffer[:size])
        del self._buffer[: size + 2]
        return data

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise SlowReplyError
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            raise SlowReplyError from None
        except OSError as error:
            raise self._gone(error) from error
        if not data:
            raise self._gone(ConnectionResetError("connection closed"))
        self._buffer += data

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(_CONNECT_S)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> UnavailableError:
        why = getattr(error, "strerror", None) or str(error) or "no answer"
        return UnavailableError(
            f"NATS does not answer at {self.url} ({why.lower()}): start it with `caravan up`, or"
            " name another by --nats-url."
        )


def plain(url: str) -> str:
    """Return ``url`` without credentials, for people."""
    return re.sub(r"//[^/@]*@", "//", url)


def check_version(version: str, url: str) -> None:
    """Refuse a server that is older than what leases need."""
    numbers = tuple(int(word) for word in re.findall(r"\d+", version)[:2])
    if numbers < topology.NATS_MINIMUM:
        wanted = ".".join(map(str, topology.NATS_MINIMUM))
        raise NatsTooOldError(
            f"NATS at {url} is {version}, and {wanted} is the oldest that works: run a newer"
            " nats-server there, or let `caravan up` start one."
        )


def _credentials(user: str | None, password: str | None) -> dict[str, str]:
    if not user:
        return {}
    if password is None:
        return {"auth_token": unquote(user)}
    return {"user": unquote(user), "pass": unquote(password)}


def _with_headers(head: bytes, data: bytes) -> Reply:
    first, *lines = head.decode(errors="replace").split("\r\n")
    status = first.split()[1:2]
    pairs = (line.partition(":") for line in lines if line)
    return Reply(
        {name.strip(): value.strip() for name, _, value in pairs},
        data,
        int(status[0]) if status and status[0].isdigit() else 0,
    )
