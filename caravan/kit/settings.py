"""Read a settings struct from the environment: once, at the edge."""

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from caravan.contracts.errors import InvalidRequestError

S = TypeVar("S", bound=msgspec.Struct)

_WANTED: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list[str]: "words with commas between them, or a JSON list",
    Path: "a path",
}


class Secret:
    """Text that never prints itself: only ``reveal`` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text; pass it on, never log it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def variable(prefix: str, field: str) -> str:
    """Return the name of the environment variable that sets ``field``, e.g. ``ROUTER_PORT``."""
    return f"{prefix}_{field}".upper()


def from_environ(kind: type[S], prefix: str, environ: Mapping[str, str]) -> S:
    """Return ``kind`` filled from ``PREFIX_FIELD`` variables.

    A wrong or missing one is refused as ``invalid_request``; the sentence names the variable and
    what it wants. Other variables with the prefix are left alone: they may be another program's.
    """
    found = {}
    for field in msgspec.structs.fields(kind):
        name = variable(prefix, field.name)
        if name in environ:
            found[field.name] = _convert(name, environ[name], field.type)
        elif field.required:
            raise InvalidRequestError(
                f"{name} is not set: give it {_wanted(field.type)}", param=name
            )
    return kind(**found)


def _convert(name: str, text: str, kind: Any) -> object:  # noqa: ANN401 - any type a field may have
    plain, optional = _without_none(kind)
    if optional and not text:
        return None
    if plain is Secret:
        return Secret(text)
    try:
        value = _words(text) if _base(plain) == list[str] else text.strip()
        if plain is str:
            value = text
        return msgspec.convert(value, plain, strict=False, dec_hook=_decode)
    except msgspec.MsgspecError as exc:
        why = f" ({exc})" if typing.get_origin(plain) is Annotated else ""
        message = f"{name}={text[:80]} does not fit: it wants {_wanted(kind)}{why}"
        raise InvalidRequestError(message, param=name) from None


def _words(text: str) -> object:
    if text.lstrip().startswith("["):
        return msgspec.json.decode(text)
    return [word.strip() for word in text.split(",") if word.strip()]


def _decode(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value)).expanduser()
    raise TypeError(f"a setting cannot be of type {kind}")


def _without_none(kind: Any) -> tuple[Any, bool]:  # noqa: ANN401 - any type a field may have
    if typing.get_origin(kind) not in {types.UnionType, typing.Union}:
        return kind, False
    rest = [one for one in typing.get_args(kind) if one is not types.NoneType]
    return rest[0], True


def _base(kind: Any) -> Any:  # noqa: ANN401 - any type a field may have
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _wanted(kind: Any) -> str:  # noqa: ANN401 - any type a field may have
    plain, _ = _without_none(kind)
    return _WANTED.get(_base(plain), "a value")
