"""Where weights come from, and which files of a model are needed."""

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import PurePosixPath
from urllib.parse import unquote

from msgspec import Struct

from services.worker.core.errors import SourceNotSupportedError, WeightsNotFoundError

FORMS = "write file:///absolute/folder or hf://owner/name[@revision]"

_HUB = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,200}))?")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "consolidated*.pth", "*.gguf")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_NEVER = ("*.onnx", "*.h5", "*.msgpack", "*.tflite", "*.ot", "*.mlmodel", "original/*", "*.md")
"""The same weights for other programs."""


class FileSource(Struct, frozen=True):
    """A folder of this machine."""

    folder: str


class HubSource(Struct, frozen=True):
    """A repository of a Hugging Face hub."""

    repository: str
    revision: str = ""


def parse(source: str) -> FileSource | HubSource:
    """Return what ``source`` means, or refuse it with the forms that are understood."""
    scheme, found, rest = source.partition("://")
    if not found:
        raise _unknown(f"{source[:80]!r} is no source")
    match scheme:
        case "file":
            return _file(source, rest)
        case "hf":
            return _hub(source, rest)
        case _:
            raise _unknown(f"sources of the form {scheme[:40]}:// are not supported")


def check_weights(source: str, files: Collection[str]) -> None:
    """Refuse a folder whose ``files`` (relative paths) an engine could not load."""
    if "config.json" not in files:
        raise missing(source, "it has no config.json")
    if not any(PurePosixPath(file).match(pattern) for file in files for pattern in _WEIGHTS):
        raise missing(source, "it has no weights (*.safetensors or pytorch_model*.bin)")


def check_index(source: str, files: Collection[str], weight_map: Mapping[str, str]) -> None:
    """Refuse a folder that lacks a part that its index names."""
    lost = sorted(set(weight_map.values()) - set(files))
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise missing(source, f"{lost[0]}{more} of its index is not there")


def index_of(files: Collection[str]) -> str | None:
    """Return the index that lists the parts of the weights, if there is one."""
    return next((name for name in _INDEXES if name in files), None)


def ignored(files: Sequence[str]) -> list[str]:
    """Return patterns of what need not be downloaded of a repository with ``files``."""
    if any(file.endswith(".safetensors") and "/" not in file for file in files):
        return [*_NEVER, "*.bin", "*.pt", "*.pth", "*.gguf"]
    return list(_NEVER)


def needed(files: Sequence[str], skipped: Sequence[str]) -> list[str]:
    """Return those of ``files`` that no pattern of ``skipped`` matches."""
    return [file for file in files if not any(fnmatch(file, pattern) for pattern in skipped)]


def missing(source: str, why: str) -> WeightsNotFoundError:
    """Return the refusal of ``source``, because of ``why``."""
    message = f"{source[:200]} cannot be served: {why}; check the source or choose another one"
    return WeightsNotFoundError(message, param="source")


def _file(source: str, rest: str) -> FileSource:
    folder = unquote(rest)
    if not folder.startswith("/") or "\0" in folder:
        raise _unknown(f"{source[:80]!r} names no absolute folder of this machine")
    return FileSource(folder)


def _hub(source: str, rest: str) -> HubSource:
    found = _HUB.fullmatch(rest)
    if found is None or ".." in rest:
        raise _unknown(f"{source[:80]!r} names no repository")
    return HubSource(found[1], found[2] or "")


def _unknown(what: str) -> SourceNotSupportedError:
    return SourceNotSupportedError(f"{what}: {FORMS}", param="source")
