"""What ``/v1/models`` says of deployments."""

from msgspec import UNSET, Struct, UnsetType

from caravan.contracts import names
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.keys import KeyEntry
from services.router.core import admission
from services.router.core.ports import Views


class Model(Struct, frozen=True, kw_only=True):
    """One model as OpenAI's clients read it, and how long its context is, where that is known."""

    id: str
    object: str = "model"
    created: int
    owned_by: str
    max_model_len: int | UnsetType = UNSET


class ModelList(Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[Model]


def of(key: KeyEntry, views: Views) -> list[Model]:
    """Return the models that a request with ``key`` may name, by id."""
    prefix = f"{key.tenant}."
    found = [
        model(name, entry, views)
        for name, entry in views.deployments()
        if name.startswith(prefix)
        and entry.state not in admission.GONE
        and admission.in_scope(_path(name), key)
    ]
    return sorted(found, key=lambda one: one.id)


def model(name: str, entry: DeploymentEntry, views: Views) -> Model:
    """Return what is said of the deployment whose bucket key is ``name``."""
    lengths = [r.max_model_len for r in views.records(name).values() if r.max_model_len > 0]
    return Model(
        id=_path(name),
        created=int(entry.created_at),
        owned_by=name.partition(".")[0],
        max_model_len=min(lengths) if lengths else UNSET,
    )


def _path(name: str) -> str:
    return names.path(*name.split(".", 1))
