"""Which model an engine serves rightly: what it does with vectors, and what the model wants."""

import pytest

from services.worker.core.errors import TaskNotSupportedError
from services.worker.core.models import Config, Module, check_fit, pooling_folder, wanted_pooling

MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
LAST = {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}
DENSE = [Module(type="sentence_transformers.models.Dense", path="2_Dense")]


def embed(architecture, pooling, modules=()):
    check_fit("embedding", Config(architectures=[architecture]), modules, pooling)


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [
        ("BertModel", CLS),
        ("XLMRobertaModel", {"pooling_mode": "cls"}),
        ("Qwen3ForCausalLM", LAST),
        ("MistralModel", {"pooling_mode": "lasttoken"}),
        ("Gemma3TextModel", MEAN),
        ("BertModel", None),
        ("LlamaForCausalLM", None),
        ("LlamaForCausalLM", {}),
    ],
)
def test_a_model_whose_pooling_the_engine_does_is_served(architecture, pooling):
    embed(architecture, pooling)


@pytest.mark.parametrize(
    ("architecture", "pooling", "wants"),
    [
        ("BertModel", MEAN, "the mean of all tokens"),
        ("BertModel", {"pooling_mode": "mean"}, "the mean of all tokens"),
        ("Qwen2Model", MEAN, "the mean of all tokens"),
        ("Qwen3ForCausalLM", CLS, "the first token"),
        ("BertModel", CLS | MEAN | {"pooling_mode_cls_token": True}, "the first token and"),
        ("BertModel", {"pooling_mode": "twirl"}, "pooling mode twirl"),
    ],
)
def test_another_pooling_is_refused_with_the_reason(architecture, pooling, wants):
    with pytest.raises(TaskNotSupportedError, match=wants):
        embed(architecture, pooling)


def test_layers_after_the_pooling_are_refused_where_the_engine_leaves_them_out():
    with pytest.raises(TaskNotSupportedError, match="Dense"):
        embed("BertModel", CLS, DENSE)
    embed("Gemma3TextModel", MEAN, DENSE)


def test_a_model_that_only_embeds_writes_no_text():
    with pytest.raises(TaskNotSupportedError, match="embedding"):
        check_fit("text-generation", Config(architectures=["BertModel"]), [], None)


def test_a_model_that_writes_is_not_asked_for_its_pooling():
    check_fit("text-generation", Config(architectures=["LlamaForCausalLM"]), DENSE, MEAN)
    check_fit("text-generation", Config(), [], None)


def test_the_pooling_stands_where_the_modules_say():
    modules = [Module(type="sentence_transformers.models.Pooling", path="7_Pooling")]
    assert pooling_folder(modules) == "7_Pooling"
    assert pooling_folder([]) == "1_Pooling"


def test_a_model_without_a_word_on_pooling_wants_nothing():
    assert wanted_pooling(None) == wanted_pooling({"word_embedding_dimension": 384}) == []
