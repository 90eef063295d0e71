"""What a fake engine does late or wrong, planned by the test."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from caravan.testing.engine.answers import TOKENS
from caravan.testing.engine.errors import RefusedError

VARIABLE = "CARAVAN_FAKE_ENGINE"
_IN_PROMPT = re.compile(r"fake(\{[^{}]*\})")


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Delays and faults of an engine, as JSON in the environment variable CARAVAN_FAKE_ENGINE.

    One request can ask for its own: by the body's field ``fake`` (SGLang ignores unknown fields,
    and so a router passes it on), or by ``fake{…}`` with JSON in its last message or prompt.
    ``…_after`` counts frames: a frame is one token, 0 means before the first byte of the answer.
    """

    start_s: float = 0.0
    """Before the port opens, as while weights load."""
    start_error: str = ""
    """The engine writes this instead of opening its port, and exits with 1."""
    unready_s: float = 0.0
    """After the port opened: /health says 503, everything else answers."""
    unhealthy: bool = False
    """/health and /health_generate say 503 for ever; SIGTERM then waits for nobody."""
    deaf: bool = False
    """SIGTERM is never followed by an end."""

    tokens: int = TOKENS
    """Length of an answer that no limit of the request makes shorter; the last one is its end."""
    first_s: float = 0.0
    """Before the first token."""
    token_s: float = 0.0
    """Before each later token."""

    status: int = 0
    """This status, with SGLang's flat error, instead of an answer."""
    crash_after: int | None = None
    """The process is gone."""
    cut_after: int | None = None
    """The connection is reset; the engine lives on."""
    end_after: int | None = None
    """A stream ends cleanly, without a finish reason and without ``[DONE]``."""
    hang_after: int | None = None
    """Nothing comes any more; the request counts as running until its client leaves."""
    error_after: int | None = None
    """A stream says an error event and ``[DONE]``."""

    def over(self, changes: Mapping[str, Any]) -> "Plan":
        """Return this plan with ``changes``; raises :class:`RefusedError` for a wrong one."""
        try:
            return msgspec.convert(msgspec.structs.asdict(self) | dict(changes), Plan, strict=False)
        except msgspec.ValidationError as error:
            raise RefusedError(f"The plan of the test is wrong: {error}") from error

    def check_status(self) -> None:
        """Refuse the request when it is planned; raises :class:`RefusedError`."""
        if self.status:
            raise RefusedError("planned by the test", str(self.status), self.status)


def from_environment(environ: Mapping[str, str]) -> Plan:
    """Return the plan of the whole engine; a wrong one stops the start."""
    return msgspec.json.decode(environ.get(VARIABLE) or "{}", type=Plan, strict=False)


def in_prompt(text: str) -> dict[str, Any]:
    """Return the changes that a prompt asks for by ``fake{…}``; none if it has no such word."""
    found = _IN_PROMPT.search(text)
    return msgspec.json.decode(found[1], type=dict[str, Any]) if found else {}


def without_plan(text: str) -> str:
    """Return a prompt without its ``fake{…}``: what is answered."""
    return _IN_PROMPT.sub("", text)
