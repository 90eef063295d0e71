"""What a model's own files say of how it wants to be served."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from caravan.contracts.deployments import EMBEDDING
from services.worker.core.errors import TaskNotSupportedError

CLS, MEAN, LAST = "the first token", "the mean of all tokens", "the last token"

_ENGINE_POOLS: Mapping[str, str] = {
    "BertModel": CLS,
    "RobertaModel": CLS,
    "XLMRobertaModel": CLS,
    "Contriever": CLS,
    "Lfm2BidirectionalModel": CLS,
    "Gemma3TextModel": MEAN,
}
"""By architecture, read from SGLang 0.5.21; every other one is pooled by its last token."""

_WANTED_WORDS: Mapping[str, str] = {
    "pooling_mode_cls_token": CLS,
    "pooling_mode_mean_tokens": MEAN,
    "pooling_mode_lasttoken": LAST,
    "pooling_mode_max_tokens": "the maximum of all tokens",
    "pooling_mode_mean_sqrt_len_tokens": "the sum by the root of the length",
    "pooling_mode_weightedmean_tokens": "a weighted mean of all tokens",
}
_WANTED_SHORT: Mapping[str, str] = {"cls": CLS, "mean": MEAN, "lasttoken": LAST}

_ONLY_EMBEDS = ("BertModel", "RobertaModel", "XLMRobertaModel", "Contriever")
_PROJECTS_ITSELF = ("Gemma3TextModel",)
"""The engine applies the Dense layers of these."""


class Config(Struct, frozen=True, kw_only=True):
    """What a worker reads of ``config.json``."""

    architectures: list[str] | None = None


class Module(Struct, frozen=True, kw_only=True):
    """One step of ``modules.json``, which sentence-transformers writes."""

    type: str = ""
    path: str = ""


def check_fit(
    task: str, config: Config, modules: Sequence[Module], pooling: Mapping[str, object] | None
) -> None:
    """Refuse a model that the engine would serve wrongly, or not at all, for ``task``.

    ``pooling`` is the model's pooling configuration; None: it has none, the engine's way is taken.
    """
    name = next(iter(config.architectures or ()), "")
    if task != EMBEDDING:
        if name in _ONLY_EMBEDS:
            _refuse(f"a {name} writes no text: deploy it with the task {EMBEDDING}")
        return
    if any(module.type.endswith(".Dense") for module in modules) and name not in _PROJECTS_ITSELF:
        _refuse(f"this {name} has Dense layers after its pooling, which SGLang leaves out")
    _check_pooling(name, wanted_pooling(pooling))


def pooling_folder(modules: Sequence[Module]) -> str:
    """Return the folder of the pooling's configuration within the model's."""
    found = (module.path for module in modules if module.type.endswith(".Pooling"))
    return next(found, "1_Pooling")


def wanted_pooling(pooling: Mapping[str, object] | None) -> list[str]:
    """Return how the model wants its tokens made one vector, in words; [] if it says nothing."""
    if pooling is None:
        return []
    mode = pooling.get("pooling_mode")
    if isinstance(mode, str):
        return [_WANTED_SHORT.get(mode, f"pooling mode {mode}")]
    return [words for key, words in _WANTED_WORDS.items() if pooling.get(key) is True]


def _check_pooling(name: str, wanted: Sequence[str]) -> None:
    does = _ENGINE_POOLS.get(name, LAST)
    if wanted and list(wanted) != [does]:
        _refuse(
            f"this model's vectors are {' and '.join(wanted)}, but SGLang makes them of {does} "
            f"for a {name}: they would be wrong without an error"
        )


def _refuse(why: str) -> None:
    raise TaskNotSupportedError(f"{why}; choose another model or task", param="source")
