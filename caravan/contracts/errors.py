"""How every service says no, on the bus, over HTTP and at the command line.

Refusal                        code, status, exit, message, param
├── InvalidRequestError   400  a field or an argument is wrong
├── UnavailableError      503  NATS, a service or its database does not answer: try again
├── OnHoldError           409  its owner changes nothing until the hold is released
└── …                          the children that a service raises stand in its ``core/errors.py``

A child names its code; what the code means elsewhere stands once, in ``MEANINGS``.
"""

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct


class Problem(Struct, frozen=True, kw_only=True):
    """What crosses a border when something is refused."""

    code: str
    """Stable; programs act on it."""
    message: str
    """One sentence that says what to do."""
    param: str | None = None
    """The field at fault, if one is."""


class Meaning(Struct, frozen=True):
    """What a code is over HTTP and at the command line."""

    status: int
    exit: int


MEANINGS: Mapping[str, Meaning] = {
    "invalid_request": Meaning(400, 2),
    "unavailable": Meaning(503, 3),
    "name_taken": Meaning(409, 4),
    "name_in_trash": Meaning(409, 4),
    "confirmation_mismatch": Meaning(409, 4),
    "on_hold": Meaning(409, 4),
    "too_many_instances": Meaning(400, 4),
    "not_in_trash": Meaning(409, 4),
    "key_already_shown": Meaning(409, 4),
    "request_id_reused": Meaning(409, 4),
    "deployment_not_found": Meaning(404, 5),
    "key_not_found": Meaning(404, 5),
    "tenant_not_found": Meaning(404, 5),
    "instance_not_found": Meaning(404, 5),
    "task_not_supported": Meaning(400, 4),
    "source_not_supported": Meaning(400, 4),
    "weights_not_found": Meaning(400, 4),
    "port_taken": Meaning(409, 3),
    "nats_too_old": Meaning(503, 3),
    "data_too_new": Meaning(503, 3),
    "internal_error": Meaning(500, 1),
}
"""Every code that crosses the bus or ends a command; those of HTTP alone stand in the router."""


def meaning(code: str) -> Meaning:
    """Return what ``code`` means; one that is not known here counts as our fault (500, exit 1)."""
    return MEANINGS.get(code, MEANINGS["internal_error"])


class Refusal(Exception):  # noqa: N818 - the root of the tree; its children end in Error
    """The root of what services raise on purpose; each border translates it once."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(code=self.code, message=message, param=param)

    @property
    def status(self) -> int:
        """The HTTP status of this refusal."""
        return meaning(self.problem.code).status

    @property
    def exit(self) -> int:
        """The exit status of a command that ends in this refusal."""
        return meaning(self.problem.code).exit


class InvalidRequestError(Refusal):
    code = "invalid_request"


class UnavailableError(Refusal):
    code = "unavailable"


class OnHoldError(Refusal):
    code = "on_hold"


class RemoteRefusal(Refusal):
    """A refusal that another service answered, told on as it came."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message, param=problem.param)
        self.problem = problem
