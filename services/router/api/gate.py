"""Who asks, and for what: the views first, the bucket once where they lack something."""

from collections.abc import Awaitable
from typing import TypeVar

from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.errors import UnavailableError
from caravan.contracts.keys import KeyEntry
from services.router.api.head import digest
from services.router.core import admission
from services.router.core.errors import ViewsMissingError
from services.router.core.job import Chances
from services.router.core.lookups import LatelyMissing, LookUpBound
from services.router.core.ports import Views

V = TypeVar("V")
RETRY_S = 2.0


class Gate:
    """Lets requests in; every refusal that it raises is final for the request."""

    def __init__(self, views: Views, chances: Chances) -> None:
        self._views, self._chances = views, chances
        self._bound, self._missing = LookUpBound(), LatelyMissing()

    def known_key(self, secret: str | None, sent: str, no_key: str) -> KeyEntry | None:
        """Return the usable key ``secret``, whose digest is ``sent``; None to ask the bucket.

        503, never 401, while the views cannot tell; ``no_key`` says how to send one to a client
        without. The checksum is looked at last: a good key is found by its digest.
        """
        if not self._views.fresh():
            raise ViewsMissingError(
                "The router does not know yet which keys and models there are. Try again soon.",
                retry_after_s=RETRY_S,
            )
        entry = self._views.key(sent)
        if entry is not None:
            return admission.check_key(entry, self._chances.now)
        if not secret:
            raise admission.no_key(no_key)
        admission.check_form(secret)
        return None

    async def asked_key(self, sent: str, client: str) -> KeyEntry:
        """Return the usable key with the digest ``sent``, which the views lack."""
        if not self._bound.take(client, self._chances.monotonic()):
            raise _too_many()
        entry = await _answered(self._views.look_up_key(sent))
        return admission.check_key(entry, self._chances.now)

    async def key(self, secret: str | None, no_key: str, client: str) -> KeyEntry:
        """Return the key of a request, looked up where that is needed."""
        sent = digest(secret) if secret else ""
        return self.known_key(secret, sent, no_key) or await self.asked_key(sent, client)

    async def deployment(self, model: str, key: KeyEntry, client: str) -> DeploymentEntry:
        """Return the entry of a model that ``key`` may use."""
        name = admission.deployment_of(model, key)
        entry = self._views.deployment(name)
        if entry is None:
            entry = await self._asked_deployment(name, client)
        return admission.check_there(model, entry)

    async def _asked_deployment(self, name: str, client: str) -> DeploymentEntry | None:
        """Ask the bucket: what was made a moment ago may not have come through the view yet.

        A client that has asked too often is told of what was not there a moment ago. Of a key
        nobody says that: a client would throw away one that is made by now.
        """
        now = self._chances.monotonic()
        if not self._bound.take(client, now):
            if self._missing.has(name, now):
                return None
            raise _too_many()
        entry = await _answered(self._views.look_up_deployment(name))
        if entry is None:
            self._missing.note(name, now)
        else:
            self._missing.forget(name)
        return entry


async def _answered(asking: Awaitable[V]) -> V:
    try:
        return await asking
    except UnavailableError as exc:
        raise ViewsMissingError(
            "The router cannot look this up at the moment. Try again soon.", retry_after_s=RETRY_S
        ) from exc


def _too_many() -> ViewsMissingError:
    return ViewsMissingError(
        "Too many unknown keys or models were asked for from this address. "
        "Try again in a few seconds.",
        retry_after_s=RETRY_S,
    )
