"""What the command refuses by itself; the other refusals come from services as they are.

Refusal                     (caravan.contracts.errors)
├── PortTakenError      3   a port that was asked for by number is in use
├── NatsTooOldError     3   leases need a newer server
├── DataTooNewError     3   the home was written by a newer Caravan
└── BrokenError         1   something of ours ended in a way that nobody planned
"""

from caravan.contracts.errors import Refusal


class PortTakenError(Refusal):
    code = "port_taken"


class NatsTooOldError(Refusal):
    code = "nats_too_old"


class DataTooNewError(Refusal):
    code = "data_too_new"


class BrokenError(Refusal):
    code = "internal_error"
