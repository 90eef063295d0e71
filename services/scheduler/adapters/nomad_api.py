"""Nomad's HTTP API, by python-nomad and its way to ask for what it has no method for."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import nomad
import requests
from nomad.api import exceptions
from nomad.api.base import Requester

from services.scheduler.core.errors import ClusterRefusedError, ClusterUnavailableError

T = TypeVar("T")
Json = Mapping[str, Any]

_PASSING = ("no cluster leader", "rpc error", "no path to region", "eof", "timeout", "connection")
"""What stands in the text of a 500 that goes by itself; any other one says no for good."""


class NotThereError(Exception):
    """Nomad knows no such thing (404)."""


class ConflictError(Exception):
    """Somebody else changed it in between: read it again."""


class NomadApi:
    """One Nomad, asked by one thread at a time.

    Raises ``ClusterUnavailableError``, ``ClusterRefusedError``, ``NotThereError``,
    ``ConflictError``.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str,
        namespace: str,
        ca_file: str = "",
        timeout_s: float = 10.0,
    ) -> None:
        self._address = address
        self._namespace = namespace
        self._timeout_s = timeout_s
        self._one_at_a_time = threading.Lock()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the environment stands between us and Nomad
        self._nomad = nomad.Nomad(
            address=address.rstrip("/"),
            token=token or None,
            verify=ca_file or True,
            session=self._session,
        )

    def close(self) -> None:
        """Let go of the connections; a later question opens new ones."""
        self._session.close()

    async def get(self, kind: type[T], *path: str, **params: str) -> T:
        """Return what stands at ``path``."""
        answer = await self._ask("get", path, params)
        return self._decoded(kind, answer.content)

    async def change(
        self, method: str, *path: str, body: Json | None = None, **params: str
    ) -> Json:
        """Return what Nomad answered to a change."""
        answer = await self._ask(method, path, params, body)
        return self._decoded(dict[str, Any], answer.content or b"{}")

    async def read(self, *path: str, most_bytes: int, **params: str) -> bytes:
        """Return at most so much of a text, which may be long."""
        return await asyncio.to_thread(self._read, path, params, most_bytes)

    async def _ask(
        self,
        method: str,
        path: Sequence[str],
        params: Mapping[str, str],
        body: Json | None = None,
    ) -> requests.Response:
        return await asyncio.to_thread(self._request, method, path, params, body)

    def _read(self, path: Sequence[str], params: Mapping[str, str], most_bytes: int) -> bytes:
        data = b""
        try:
            with self._request("get", path, params, stream=True) as answer:
                for piece in answer.iter_content(64 * 1024):
                    data += piece
                    if len(data) >= most_bytes:
                        break
        except requests.RequestException as exc:
            raise self._unavailable(exc) from exc
        return data[:most_bytes]

    def _request(
        self,
        method: str,
        path: Sequence[str],
        params: Mapping[str, str],
        body: Json | None = None,
        *,
        stream: bool = False,
    ) -> requests.Response:
        with self._one_at_a_time:
            try:
                answer: requests.Response = self._part(path[0]).request(
                    *path[1:],
                    method=method,
                    # Said each time: python-nomad leaves it out where it must not be left out.
                    params={"namespace": self._namespace, **params},
                    json=body,
                    timeout=self._timeout_s,
                    stream=stream,
                )
            except exceptions.URLNotFoundNomadException as exc:
                raise NotThereError("/".join(path)) from exc
            except exceptions.BaseNomadException as exc:
                raise self._translated(exc, method) from exc
            except exceptions.TimeoutNomadException as exc:
                raise self._unavailable(exc) from exc
            return answer

    def _part(self, name: str) -> Requester:
        return self._nomad.client.stream_logs if name == "logs" else getattr(self._nomad, name)

    def _translated(self, exc: exceptions.BaseNomadException, method: str) -> Exception:
        answer = exc.nomad_resp
        if not isinstance(answer, requests.Response):
            return self._unavailable(answer)
        text = " ".join(answer.text.split())[:300]
        if answer.status_code == 403:
            return ClusterRefusedError(
                "Nomad does not allow this to the scheduler's token: give it the policy that "
                "jobs/README.md shows"
            )
        if answer.status_code == 409 or "Enforcing job modify index" in text:
            return ConflictError(text)
        passing = any(sign in text.lower() for sign in _PASSING)
        if answer.status_code in {429, 502, 503, 504} or passing or method == "get":
            return self._unavailable(text or answer.status_code)
        return ClusterRefusedError(f"Nomad refuses it: {text}")

    def _unavailable(self, why: object) -> ClusterUnavailableError:
        return ClusterUnavailableError(
            f"Nomad at {self._address} does not answer as it should: see that it runs and has a "
            f"leader ({why})"
        )

    def _decoded(self, kind: type[T], data: bytes) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as exc:
            raise self._unavailable(f"unreadable answer: {exc}") from exc
