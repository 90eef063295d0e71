"""Everything a worker raises on purpose.

Refusal                          (caravan.contracts.errors: code, status, exit, message, param)
├── TaskNotSupportedError   400  no engine here does it, or not with this model
├── SourceNotSupportedError 400  not a source that a worker understands
├── WeightsNotFoundError    400  nothing there that an engine could load
├── PortTakenError          409  another program listens on WORKER_PORT
├── HubUnavailableError     503  the model hub does not answer: the cluster tries again
├── AlreadyRunningError     (75) another worker holds the folder
└── WorkerEndedError             how a life ended; its code and exit come with it
"""

from caravan.contracts.errors import Problem, Refusal, UnavailableError

HELD_EXIT = 75
"""What a worker exits with when the instance is another one's: nothing failed, do not count it."""


class TaskNotSupportedError(Refusal):
    code = "task_not_supported"


class SourceNotSupportedError(Refusal):
    code = "source_not_supported"


class WeightsNotFoundError(Refusal):
    code = "weights_not_found"


class PortTakenError(Refusal):
    code = "port_taken"


class HubUnavailableError(UnavailableError):
    pass


class AlreadyRunningError(Refusal):
    @property
    def exit(self) -> int:
        """75, so that a cluster can tell it from a failure."""
        return HELD_EXIT


class WorkerEndedError(Refusal):
    """A life that ended in something else than what was asked."""

    def __init__(self, problem: Problem, exit_status: int) -> None:
        super().__init__(problem.message, param=problem.param)
        self.problem = problem
        self._exit = exit_status

    @property
    def exit(self) -> int:
        """The status that the life ended with."""
        return self._exit
