"""Whether a request may come in, and what it meets when it may not."""

from collections.abc import Callable

from caravan.contracts import keys, names
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.keys import KeyEntry
from services.router.core import dialects
from services.router.core.errors import (
    BadRequestError,
    HttpRefusal,
    InvalidKeyError,
    ModelNotFoundError,
    NotReadyError,
    StoppedError,
)

GONE = frozenset({"deleting", "deleted"})
STOPPED = frozenset({"stopping", "stopped"})
RETRY_S = {"failed": 30.0, "pending": 10.0, "starting": 5.0, "asleep": 5.0}
RETRY_SOON_S = 1.0
"""For states in which an instance should be ready, or will be at once."""


def no_key(how: str) -> InvalidKeyError:
    """Return the refusal of a client that sent no key; ``how`` to send one is the dialect's."""
    return InvalidKeyError(f"You did not send an API key. {how}")


def check_form(secret: str) -> None:
    """Refuse what cannot be a key of this platform."""
    if not keys.well_formed(secret):
        raise InvalidKeyError(
            "The API key is mistyped or not one of this platform: its checksum is wrong. "
            "Copy it again, or create one with `caravan keys create`."
        )


def check_key(entry: KeyEntry | None, now: Callable[[], float]) -> KeyEntry:
    """Return ``entry`` if it may be used ``now``, seconds since the epoch."""
    if entry is not None and entry.state == "active" and entry.expires_at is None:
        return entry
    if entry is None:
        raise InvalidKeyError("There is no such API key. Create one with `caravan keys create`.")
    if entry.state != "active":
        raise InvalidKeyError(f"The API key {entry.id} was {entry.state}. Use another one.")
    if entry.expires_at is not None and entry.expires_at <= now():
        raise InvalidKeyError(f"The API key {entry.id} has expired. Create a new one.")
    return entry


def deployment_of(model: str, key: KeyEntry) -> str:
    """Return the bucket key of ``model``; another tenant's does not exist for this ``key``."""
    parts = names.split_path(model)
    if parts is None or parts[0] != key.tenant or not in_scope(model, key):
        raise no_model(model)
    return names.deployment_key(*parts)


def in_scope(model: str, key: KeyEntry) -> bool:
    """Tell whether ``key`` may name ``model``, a model id of its own tenant."""
    return not key.scopes or model in key.scopes


def check_there(model: str, entry: DeploymentEntry | None) -> DeploymentEntry:
    """Return ``entry`` if it exists for clients."""
    if entry is None or entry.state in GONE:
        raise no_model(model)
    return entry


def routes_of(entry: DeploymentEntry) -> frozenset[str]:
    """Return the routes on which the deployment of ``entry`` answers."""
    if entry.state in GONE:
        return frozenset()
    return frozenset(
        route for route in dialects.DIALECTS if dialects.wrong_route(route, entry.task) is None
    )


def check_route(model: str, route: str, entry: DeploymentEntry) -> None:
    """Refuse a model that does not do what ``route`` asks for: the engine may die of it."""
    wrong = dialects.wrong_route(route, entry.task)
    if wrong is not None:
        raise BadRequestError(f"{model} cannot answer here; {wrong}.", param="model")


def no_instance(model: str, entry: DeploymentEntry) -> HttpRefusal:
    """Return what a request meets when no instance of the deployment can be used."""
    if entry.state in STOPPED:
        return StoppedError(f"{model} is {entry.state}. Its owner can start it again.")
    why = f": {entry.reason.rstrip('.')}" if entry.reason else ""
    return NotReadyError(
        f"{model} has no instance that is ready (it is {entry.state}){why}. Try again later.",
        retry_after_s=RETRY_S.get(entry.state, RETRY_SOON_S),
    )


def no_model(model: str) -> ModelNotFoundError:
    """Return the refusal of a model that this key cannot name, whatever the reason."""
    return ModelNotFoundError(
        f"The model {model[:120]!r} does not exist or this key may not use it. "
        "GET /v1/models lists those that it may.",
        param="model",
    )
