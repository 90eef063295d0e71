"""The table of who comes in and what the others are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.contracts import admin, keys
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.keys import KeyEntry
from services.router.core import admission
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


@pytest.mark.parametrize("header", [f"Bearer {SECRET}", f"bearer  {SECRET} ", f"BEARER {SECRET}"])
def test_a_bearer_key_becomes_its_digest(header):
    assert admission.bearer(header) == keys.digest(SECRET)


@given(st.text(max_size=80))
def test_anything_else_is_an_invalid_key_and_is_not_repeated(header):
    with pytest.raises(InvalidKeyError) as refusal:
        admission.bearer(header)
    assert len(header) < 4 or header not in refusal.value.problem.message


def test_a_key_is_usable_until_the_moment_it_expires():
    until = KeyEntry(id="k-1", tenant=TENANT, state="active", expires_at=100.0)

    assert admission.check_key(until, 99.9) is until
    with pytest.raises(InvalidKeyError):
        admission.check_key(until, 100.0)


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
            admission.check_deployment(MODEL, admission.CHAT, found)
        return
    assert admission.check_deployment(MODEL, admission.CHAT, found) is found
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
    wrong = admission.CHAT if task == "embedding" else admission.EMBEDDINGS
    if task == "rerank":  # whose routes come later: the engine decides
        admission.check_deployment(MODEL, wrong, entry(task=task))
        return
    with pytest.raises(BadRequestError, match="use /v1/"):
        admission.check_deployment(MODEL, wrong, entry(task=task))
