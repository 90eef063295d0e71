"""SGLang's command line: all of its flags are known, some of them do something."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

FLAGS = Path(__file__).with_name("flags.json")
"""Written by dump_flags.py from the real one."""
DEFAULTS = {
    "host": "127.0.0.1",
    "port": 30000,
    "max_running_requests": 2048,
    "max_total_tokens": 8192,
}
"""What the fake takes where SGLang works it out from the machine."""
TYPES = {"int": int, "float": float}


class Options(Struct, frozen=True, kw_only=True):
    """The flags that change what the fake does; the others are accepted and forgotten."""

    model_path: str
    served_model_name: str
    host: str
    port: int
    api_key: str | None
    is_embedding: bool
    context_length: int | None
    max_running_requests: int
    max_queued_requests: int | None
    max_total_tokens: int
    enable_metrics: bool
    enable_cache_report: bool
    stream_response_default_include_usage: bool


class Flag(Struct, frozen=True, kw_only=True):
    """One line of flags.json."""

    names: list[str]
    nargs: int | str | None = None
    type: str = ""
    choices: list[str | int | float] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``add_argument`` takes beside the names."""
        if self.nargs == 0:
            off = len(self.names) > 1  # --no-…
            return {"action": argparse.BooleanOptionalAction if off else "store_true"}
        taken = {"nargs": self.nargs, "type": TYPES.get(self.type), "choices": self.choices}
        return {name: value for name, value in taken.items() if value is not None}


def known() -> list[Flag]:
    """Return all flags of SGLang."""
    return msgspec.json.decode(FLAGS.read_bytes(), type=list[Flag])


def parse(arguments: Sequence[str]) -> Options:
    """Return the options; like SGLang, exit with 2 and the usage when a flag is not known."""
    given = list(_without_model_type(arguments))
    asked = _parser(given).parse_args(given)
    name = asked.served_model_name or asked.model_path
    told = {field: getattr(asked, field) for field in Options.__struct_fields__}
    return Options(**told | {"served_model_name": name})


def _without_model_type(arguments: Sequence[str]) -> Iterator[str]:
    """Leave out ``--model-type llm``, which ``sglang serve`` reads before it knows the engine."""
    rest = iter(arguments)
    for argument in rest:
        if argument == "--model-type":
            next(rest, None)
        elif not argument.startswith("--model-type="):
            yield argument


def _needed(arguments: Sequence[str]) -> Iterator[Flag]:
    """Leave out what no argument can mean: a parser of 512 flags takes a tenth of our start."""
    given = tuple(argument.partition("=")[0] for argument in arguments)
    all_of_them = not {"-h", "--help"}.isdisjoint(given)
    for flag in known():
        ours = flag.names[0].removeprefix("--").replace("-", "_") in Options.__struct_fields__
        if ours or all_of_them or any(name.startswith(given) for name in flag.names):
            yield flag


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sglang serve")
    parser.add_argument("command", choices=["serve"], help=argparse.SUPPRESS)
    for flag in _needed(arguments):
        names = [name for name in flag.names if not name.startswith("--no-")]
        more: dict[str, Any] = {"required": True} if "--model-path" in names else {}
        parser.add_argument(*names, **flag.arguments | more)
    parser.set_defaults(**DEFAULTS)
    return parser
