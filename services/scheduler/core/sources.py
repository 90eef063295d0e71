"""What a deployment may be made of: tasks, sources, engine flags, resources."""

import math
import re
from collections.abc import Mapping, Sequence

from caravan.contracts.deployments import EMBEDDING, TASKS, TEXT_GENERATION
from caravan.contracts.errors import InvalidRequestError
from services.scheduler.core.errors import SourceNotSupportedError, TaskNotSupportedError

OFFERED = (TEXT_GENERATION, EMBEDDING)
RESOURCES = ("cpu_mhz", "memory_mib", "gpus")
ENGINE_ARGS_LIMIT = 64
ENGINE_ARG_CHARS = 4096
SOURCE_CHARS = 2048
OURS = (
    "--model-path",
    "--model",
    "--served-model-name",
    "--host",
    "--port",
    "--api-key",
    "--admin-api-key",
)
"""Flags that the worker sets; given twice, an engine would not be found or not be guarded."""

_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def check_task(task: str) -> str:
    """Return ``task``, or refuse one that no engine here serves yet."""
    if task in OFFERED:
        return task
    if task in TASKS:
        raise TaskNotSupportedError(
            f"{task} is not offered yet: use one of {', '.join(OFFERED)}", param="task"
        )
    raise InvalidRequestError(
        f"{task[:60]!r} is no task: use one of {', '.join(OFFERED)}", param="task"
    )


def check_source(source: str) -> str:
    """Return ``source``, or refuse one that no worker could resolve."""
    scheme, separator, rest = source.partition("://")
    if len(source) > SOURCE_CHARS or not source.isprintable():
        raise InvalidRequestError("source is too long or not printable", param="source")
    match scheme if separator else "":
        case "file" if rest.startswith("/") and len(rest) > 1:
            return source
        case "file":
            raise InvalidRequestError(
                "a file source is an absolute path: file:///models/llama", param="source"
            )
        case "hf" if _HUB.fullmatch(rest):
            return source
        case "hf":
            raise InvalidRequestError(
                "a hub source is hf://owner/name, or hf://owner/name@revision", param="source"
            )
    raise SourceNotSupportedError(
        f"{source[:60]!r} is not understood: use file:///absolute/path or hf://owner/name",
        param="source",
    )


def check_engine_args(engine_args: Sequence[str]) -> list[str]:
    """Return the flags, or refuse those that are the worker's own."""
    if len(engine_args) > ENGINE_ARGS_LIMIT or any(len(a) > ENGINE_ARG_CHARS for a in engine_args):
        raise InvalidRequestError(
            f"use at most {ENGINE_ARGS_LIMIT} engine_args of {ENGINE_ARG_CHARS} characters each",
            param="engine_args",
        )
    for argument in engine_args:
        if argument.partition("=")[0] in OURS or "\0" in argument:
            raise InvalidRequestError(
                f"leave {argument[:60]!r} out of engine_args: the worker sets it",
                param="engine_args",
            )
    return list(engine_args)


def check_resources(resources: Mapping[str, float]) -> dict[str, float]:
    """Return the resources of one instance, or refuse what no cluster could give."""
    for name, amount in resources.items():
        if name not in RESOURCES:
            raise InvalidRequestError(
                f"{name[:60]!r} is no resource: use {', '.join(RESOURCES)}", param="resources"
            )
        if not math.isfinite(amount) or amount < 0 or (name == "gpus" and amount % 1):
            raise InvalidRequestError(
                f"{name} cannot be {amount:g}: use a number from 0, whole for gpus",
                param="resources",
            )
    return dict(resources)


def check_seconds(name: str, value: float, least: float, most: float) -> float:
    """Return ``value``, or refuse one outside of ``least`` to ``most`` seconds."""
    if not least <= value <= most:
        raise InvalidRequestError(
            f"{name} cannot be {value:g}: use {least:g} to {most:g} seconds", param=name
        )
    return value
