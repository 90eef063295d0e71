"""The table of who comes in and what the others are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts import admin, keys
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.keys import KeyEntry
from services.router.core import admission
from services.router.core.dialects import CHAT, EMBEDDINGS, RERANK
from services.router.core.errors import (
    BadRequestError,
    InvalidKeyError,
    ModelNotFoundError,
    NotReadyError,
    StoppedError,
)

TENANT = "u-8105f7322477"
MODEL = f"{TENANT}/test"
KEY = KeyEntry(id="k-1", tenant=TENANT, state="active")
SECRET = keys.mint(42)


def entry(state="running", task="text-generation", **fields):
    return DeploymentEntry(task=task, generations=[1], state=state, **fields)


@given(st.text(max_size=80))
def test_what_has_not_the_form_of_a_key_is_refused_and_not_repeated(secret):
    admission.check_form(SECRET)
    with pytest.raises(InvalidKeyError) as refusal:
        admission.check_form(secret)
    assert len(secret) < 4 or secret not in refusal.value.problem.message


def test_a_key_is_usable_until_the_moment_it_expires():
    until = KeyEntry(id="k-1", tenant=TENANT, state="active", expires_at=100.0)

    assert admission.check_key(until, lambda: 99.9) is until
    with pytest.raises(InvalidKeyError):
        admission.check_key(until, lambda: 100.0)


@pytest.mark.parametrize("model", [MODEL, "u-000000000000/test", "test", "", f"{MODEL}/x", "a/b"])
def test_only_the_keys_own_tenant_has_models(model):
    if model == MODEL:
        assert admission.deployment_of(model, KEY) == f"{TENANT}.test"
        return
    with pytest.raises(ModelNotFoundError) as refusal:
        admission.deployment_of(model, KEY)
    assert refusal.value.problem.param == "model"


@pytest.mark.parametrize("state", [*admin.STATES, "a-word-of-tomorrow"])
def test_every_state_says_what_a_request_meets_without_an_instance(state):
    found = entry(state)
    if state in admission.GONE:
        with pytest.raises(ModelNotFoundError):
            admission.check_there(MODEL, found)
        return
    assert admission.check_there(MODEL, found) is found
    refusal = admission.no_instance(MODEL, found)
    if state in admission.STOPPED:
        assert isinstance(refusal, StoppedError)
        assert refusal.retry_after_s is None
    else:
        assert isinstance(refusal, NotReadyError)
        assert refusal.retry_after_s is not None
        assert 0 < refusal.retry_after_s <= 60


@pytest.mark.parametrize("task", ["text-generation", "image-understanding", "embedding", "rerank"])
def test_a_task_has_its_routes(task):
    wrong, right = (EMBEDDINGS, CHAT) if task.startswith(("text", "image")) else (CHAT, EMBEDDINGS)
    if task == "rerank":
        right = RERANK
    admission.check_route(MODEL, right, entry(task=task))
    with pytest.raises(BadRequestError, match="use /v1/"):
        admission.check_route(MODEL, wrong, entry(task=task))
