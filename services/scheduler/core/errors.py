"""Everything the scheduler raises on purpose.

Refusal                              (caravan.contracts.errors: code, status, exit, message, param)
├── DeploymentNotFoundError     404  ask for another name
├── InstanceNotFoundError       404  ask for another instance
├── NameTakenError              409  the name is in use
├── NameInTrashError            409  the name was deleted less than 24 h ago
├── NotInTrashError             409  there is nothing to restore
├── ConfirmationMismatchError   409  delete wants the bare name again
├── TooManyInstancesError       400  over the limit
├── TaskNotSupportedError       400  not offered yet
├── SourceNotSupportedError     400  not understood
├── WeightsNotFoundError        400  nothing there that an engine could load
├── ClusterUnavailableError     503  the cluster does not answer: the loop tries again
└── ClusterRefusedError         500  the cluster says no: a person must mend something
"""

from caravan.contracts.errors import Refusal, UnavailableError


class DeploymentNotFoundError(Refusal):
    code = "deployment_not_found"


class InstanceNotFoundError(Refusal):
    code = "instance_not_found"


class NameTakenError(Refusal):
    code = "name_taken"


class NameInTrashError(Refusal):
    code = "name_in_trash"


class NotInTrashError(Refusal):
    code = "not_in_trash"


class ConfirmationMismatchError(Refusal):
    code = "confirmation_mismatch"


class TooManyInstancesError(Refusal):
    code = "too_many_instances"


class TaskNotSupportedError(Refusal):
    code = "task_not_supported"


class SourceNotSupportedError(Refusal):
    code = "source_not_supported"


class WeightsNotFoundError(Refusal):
    code = "weights_not_found"


class ClusterUnavailableError(UnavailableError):
    pass


class ClusterRefusedError(Refusal):
    pass
