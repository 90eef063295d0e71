"""Everything that auth raises on purpose.

Refusal                      (caravan.contracts.errors: code, status, exit, message, param)
├── InvalidRequestError 400  a field is wrong
├── OnHoldError         409  nothing is changed until the hold is released
├── TenantNotFoundError 404  ask for another tenant, or create it
├── LabelTakenError     409  another tenant is called so
├── KeyNotFoundError    404  the tenant has no such key, or it can no longer be used
└── KeyAlreadyShownError 409 a repeated create or rotate: its secret is shown once
"""

from caravan.contracts.errors import Refusal


class TenantNotFoundError(Refusal):
    code = "tenant_not_found"


class LabelTakenError(Refusal):
    code = "name_taken"


class KeyNotFoundError(Refusal):
    code = "key_not_found"


class KeyAlreadyShownError(Refusal):
    code = "key_already_shown"
