"""Who asks, and for what: the views first, the bucket once where they lack something."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.errors import UnavailableError
from caravan.contracts.keys import KeyEntry
from services.router.core import admission
from services.router.core.errors import ViewsMissingError
from services.router.core.job import Chances
from services.router.core.lookups import LookUpBound
from services.router.core.ports import Views

V = TypeVar("V")
RETRY_S = 2.0


class Gate:
    """Lets requests in; every refusal that it raises is final for the request."""

    def __init__(self, views: Views, chances: Chances) -> None:
        self._views, self._chances = views, chances
        self._bound = LookUpBound()

    async def key(self, authorization: str | None, client: str) -> KeyEntry:
        """Return the key of a request; 503, never 401, while the views cannot tell."""
        self._require_views()
        digest = admission.bearer(authorization)
        entry = self._views.key(digest)
        if entry is None:
            entry = await self._look_up(self._views.look_up_key, digest, client)
        return admission.check_key(entry, self._chances.now())

    async def deployment(
        self, model: str, route: str, key: KeyEntry, client: str
    ) -> tuple[str, DeploymentEntry]:
        """Return the bucket key and the entry of a model that ``key`` may use on ``route``."""
        name = admission.deployment_of(model, key)
        entry = self._views.deployment(name)
        if entry is None:
            entry = await self._look_up(self._views.look_up_deployment, name, client)
        return name, admission.check_deployment(model, route, entry)

    def _require_views(self) -> None:
        if not self._views.fresh():
            raise ViewsMissingError(
                "The router does not know yet which keys and models there are. Try again soon.",
                retry_after_s=RETRY_S,
            )

    async def _look_up(
        self, ask: Callable[[str], Awaitable[V | None]], what: str, client: str
    ) -> V | None:
        """Ask the bucket: what was made a moment ago may not have come through the view yet."""
        if not self._bound.take(client, self._chances.monotonic()):
            raise ViewsMissingError(
                "Too many unknown keys or models were asked for from this address. "
                "Try again in a few seconds.",
                retry_after_s=RETRY_S,
            )
        try:
            return await ask(what)
        except UnavailableError as exc:
            raise ViewsMissingError(
                "The router cannot look this up at the moment. Try again soon.",
                retry_after_s=RETRY_S,
            ) from exc
