"""Write docs/reference again from the code: ``python -m docs.generate [--check]``.

Settings come from each service's ``settings.py``, messages from ``caravan.contracts`` with their
golden bytes, commands from the parser of ``caravan``. ``--check`` writes nothing and exits with 1
when a page is stale.
"""

import argparse
import ast
import json
import os
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.inspect import StructType, type_info
from msgspec.structs import fields

from caravan.cli.commands import build
from caravan.contracts import topology
from caravan.contracts.errors import MEANINGS

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
CONTRACTS = ROOT / "caravan" / "contracts"
GOLDEN = ROOT / "tests" / "contracts" / "golden"
SERVICES = ("auth", "router", "scheduler", "worker")
HEAD = "<!-- Written by `make docs` from the code; do not edit. -->\n"


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {"settings.md": _settings(), "messages.md": _messages(), "commands.md": _commands()}


# --- settings: fields and docstrings are read from the source, where the docstrings are


def _settings() -> str:
    lines = [HEAD, "# Settings", ""]
    lines += ["Each service reads its environment once, at its start.", ""]
    for service in SERVICES:
        lines += [f"## {service}", "", "| variable | type | default | |", "|---|---|---|---|"]
        lines += [_row(service, *entry) for entry in _fields(service)]
        lines.append("")
    return "\n".join(lines)


def _fields(service: str) -> Iterator[tuple[str, str, str, str]]:
    source = ROOT / "services" / service / "settings.py"
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == "Settings":
            yield from _documented(node.body)


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, default and docstring of each field of a class body."""
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default = ast.unparse(node.value) if node.value else "required"
            yield node.target.id, ast.unparse(node.annotation), default, _docstring(following)


def _docstring(node: ast.stmt | None) -> str:
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ):
        return " ".join(node.value.value.split())
    return ""


def _row(service: str, name: str, kind: str, default: str, text: str) -> str:
    cells = [f"`{service}_{name}`".upper(), f"`{kind}`", f"`{default}`", text.replace("``", "`")]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# --- messages


def _messages() -> str:
    lines = [HEAD, "# Messages", "", *_PREFACE]
    for endpoint in topology.ENDPOINTS:
        lines += _endpoint(endpoint)
    lines += ["## Answers", ""]
    for kind in _answers():
        lines += [f"### {kind.__name__}", "", _first_line(kind), "", *_table(kind)]
    lines += ["## Codes", "", "| code | HTTP | exit |", "|---|---|---|"]
    lines += [f"| `{code}` | {m.status} | {m.exit} |" for code, m in MEANINGS.items()]
    lines += ["", "## Buckets", "", "| bucket | key | writer | readers | a key lives |"]
    lines += ["|---|---|---|---|---|", *(_bucket(bucket) for bucket in topology.BUCKETS)]
    lines += ["", "## Streams", "", "| stream | subjects | writer |", "|---|---|---|"]
    lines += [f"| `{s.name}` | `{', '.join(s.subjects)}` | {s.writer} |" for s in topology.STREAMS]
    return "\n".join([*lines, ""])


def _answers() -> list[type[Struct]]:
    """Return what endpoints answer and what that holds, each once, in the order of mention."""
    found: list[type[Struct]] = []
    waiting: list[object] = [endpoint.answer for endpoint in topology.ENDPOINTS]
    while waiting:
        kind = waiting.pop(0)
        waiting[:0] = typing.get_args(kind)
        if isinstance(kind, type) and issubclass(kind, Struct) and kind not in found:
            found.append(kind)
            waiting[:0] = [field.type for field in fields(kind)]
    return found


_PREFACE = [
    "Every admin message is a request to a NATS micro service, answered with JSON. `$TENANT` is a",
    "tenant's id, e.g. `u-8105f7322477`. What changes something carries `request_id`, made once",
    "per intent: the same one again gets the same answer and does nothing twice. A refusal is",
    "answered as `{code, message, param}`, its code also in the header `Nats-Service-Error-Code`.",
    "",
]


def _endpoint(endpoint: topology.Endpoint) -> list[str]:
    subject = endpoint.subject.replace("*", "$TENANT")
    answer = endpoint.answer.__name__
    return [
        f"## `{subject}`",
        "",
        _first_line(endpoint.request),
        "",
        "```console",
        f"nats req {subject} '{_example(endpoint)}'",
        "```",
        "",
        *_table(endpoint.request),
        f"Answer: [`{answer}`](#{answer.lower()})",
        "",
    ]


def _example(endpoint: topology.Endpoint) -> str:
    """Return the golden bytes of a request, on one line."""
    golden = GOLDEN / f"{endpoint.service}.{endpoint.name}.request.json"
    return json.dumps(json.loads(golden.read_text()), ensure_ascii=False)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0].replace("``", "`")


def _table(kind: type) -> list[str]:
    if not isinstance(type_info(kind), StructType) or not fields(kind):
        return []
    documented = {name: text for name, _, _, text in _fields_of(kind)}
    rows = [
        f"| `{field.name}` | `{_kind(field.type)}` | {_cell(documented.get(field.name, ''))} |"
        for field in fields(kind)
    ]
    return ["| field | type | |", "|---|---|---|", *rows, ""]


def _fields_of(kind: type) -> Iterator[tuple[str, str, str, str]]:
    """Yield the documented fields of a struct and of the structs that it inherits from."""
    for base in kind.__mro__:
        module = sys.modules.get(base.__module__)
        if module is None or not (getattr(module, "__file__", None) or "").startswith(
            str(CONTRACTS)
        ):
            continue
        tree = ast.parse(Path(str(module.__file__)).read_text())
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == base.__name__:
                yield from _documented(node.body)


def _kind(annotation: object) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    text = str(annotation).replace("typing.", "").replace("msgspec.UnsetType", "unset")
    return text.replace("caravan.contracts.", "").replace("|", "or")


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _bucket(bucket: topology.Bucket) -> str:
    lives = f"{bucket.ttl_s} s" if bucket.ttl_s else "until deleted"
    cells = [f"`{bucket.name}`", f"`{bucket.key}`", bucket.writer, ", ".join(bucket.readers), lives]
    return "| " + " | ".join(cells) + " |"


# --- commands


def _commands() -> str:
    os.environ |= {"COLUMNS": "88", "NO_COLOR": "1"}  # argparse folds to the terminal
    lines = [HEAD, "# The `caravan` command", ""]
    for parser in _parsers(build()):
        lines += [f"## `{parser.prog}`", "", "```text", parser.format_help().strip(), "```", ""]
    return "\n".join(lines)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of its commands, as they stand in its help."""
    yield parser
    for action in parser._actions:  # noqa: SLF001 - argparse shows its commands nowhere else
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for command in action.choices.values():
                yield from _parsers(command)


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` name the stale ones; return the exit status."""
    stale = []
    for name, text in pages().items():
        target = REFERENCE / name
        if not target.is_file() or target.read_text() != text:
            stale.append(name)
            if "--check" not in arguments:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
    if stale and "--check" in arguments:
        sys.stderr.write(f"stale: {', '.join(stale)}; run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
