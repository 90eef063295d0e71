"""How an answer can end otherwise."""


class RefusedError(Exception):
    """The request is answered with an error: flat, but for the routes that have their own form."""

    def __init__(
        self,
        message: str,
        kind: str = "BadRequestError",
        status: int = 400,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.kind, self.status, self.param = message, kind, status, param


class UnexpectedError(Exception):
    """SGLang stumbles over this request: 500, as text."""


class BrokenOffError(Exception):
    """The plan ends this answer here; nothing more is to be said."""


class AbortedError(Exception):
    """Somebody asked for the end of this request."""


class PlannedError(Exception):
    """The engine fails at this request."""
