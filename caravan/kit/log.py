"""Logs: named events with pairs, as JSON lines or for eyes, always on stderr.

``log = structlog.get_logger()`` and ``log.info("deployment.stuck", name=…)`` is all a module needs.
What the libraries say through ``logging`` comes out in the same form.
"""

import functools
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from structlog.contextvars import get_contextvars
from structlog.typing import EventDict, Processor

from caravan.contracts.errors import InvalidRequestError

FORMS = ("auto", "console", "json")
LEVELS = ("debug", "info", "warning", "error")

_QUIET = ("uvicorn", "uvicorn.error", "litestar", "nats", "alembic", "sqlalchemy", "asyncio")
"""Libraries whose chatter below a warning says nothing about our service."""

_SECRETS = re.compile(r"ck-[0-9A-Za-z]{49}\b|(?<=://)[^\s/@\"',]+(?=@)")
"""API keys, and the user and password of a URL. A colour's code may stand right before a key."""


class _Stderr:
    """Writes lines to what ``sys.stderr`` is at that moment."""

    def msg(self, message: str) -> None:
        sys.stderr.write(message + "\n")
        sys.stderr.flush()

    debug = info = warning = error = critical = msg


def configure(service: str, *, form: str = "auto", level: str = "info") -> None:
    """Send structlog and ``logging`` to stderr as ``form``, from ``level`` on.

    ``auto`` is ``console`` on a terminal, else ``json``. API keys and passwords in URLs are masked.
    """
    _check(form, FORMS, "log_form")
    _check(level, LEVELS, "log_level")
    shared = _shared(service)
    last = _renderer(service, form)
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=True,
    )
    _route_stdlib(shared, last, least)


def lines(event: str) -> Callable[[Struct], None]:
    """Return what writes ``event`` with the fields of a struct as pairs, at level info.

    The line is that of ``structlog.get_logger().info(event, **fields)``, at a fifth of its price in
    the form ``json``. To be asked for after ``configure``; context variables are those of now. A
    struct has at least one field that is encoded.
    """
    if not structlog.get_logger().is_enabled_for(logging.INFO):
        return lambda _: None
    last = structlog.get_config()["processors"][-1]
    if isinstance(last, _JsonForm):
        return functools.partial(last.write, {"event": event, **get_contextvars()})
    return lambda pairs: structlog.get_logger().info(event, **msgspec.to_builtins(pairs))


def _check(word: str, words: tuple[str, ...], param: str) -> None:
    if word not in words:
        raise InvalidRequestError(f"{param} is {word!r}: use {', '.join(words)}", param=param)


def _shared(service: str) -> list[Processor]:
    def bound(_: object, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        bound,
    ]


def _renderer(service: str, form: str) -> list[Processor]:
    # Tracebacks are text in both forms: a pretty one would print local variables, secrets included.
    text = structlog.processors.format_exc_info
    if form == "json" or (form == "auto" and not sys.stderr.isatty()):
        return [text, _JsonForm(service)]
    plain = structlog.dev.plain_traceback
    return [text, _masked(structlog.dev.ConsoleRenderer(exception_formatter=plain))]


def _masked(render: Processor) -> Processor:
    def masking(logger: Any, method: str, event: EventDict) -> str:  # noqa: ANN401 - as structlog has it
        return mask(str(render(logger, method, event)))

    return masking


def mask(line: str) -> str:
    """Return the finished ``line`` without its secrets, so that nothing nested escapes."""
    # Most lines have none, and looking for these words costs a hundredth of the pattern.
    return _SECRETS.sub("***", line) if "ck-" in line or "://" in line else line


class _JsonForm:
    """The last processor of the form ``json``; ``write`` gets there without the others."""

    def __init__(self, service: str) -> None:
        self._service, self._out = service, _Stderr()
        self._encode = msgspec.json.Encoder(enc_hook=repr).encode

    def __call__(self, _: object, __: str, event: EventDict) -> str:
        return mask(self._encode(event).decode())

    def write(self, known: dict[str, Any], pairs: Struct) -> None:
        own = {**known, "level": "info", "timestamp": datetime.now(UTC), "service": self._service}
        line = self._encode(pairs)[:-1] + b"," + self._encode(own)[1:]
        self._out.msg(mask(line.decode()))


def _route_stdlib(shared: list[Processor], last: list[Processor], least: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    form = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _named],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler.setFormatter(form)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(least, logging.WARNING))


def _named(_: object, __: str, event: EventDict) -> EventDict:
    event["logger"] = event["_record"].name
    return event
