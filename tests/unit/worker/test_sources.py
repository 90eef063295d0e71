"""What a source means, and whether an engine could load what is there."""

import json

import pytest

from caravan.contracts.errors import Refusal
from services.worker.adapters.sources import Sources, check_model
from services.worker.core.errors import SourceNotSupportedError, WeightsNotFoundError
from services.worker.core.sources import FileSource, HubSource, ignored, needed, parse


@pytest.mark.parametrize(
    ("source", "meaning"),
    [
        ("file:///models/a", FileSource("/models/a")),
        ("file:///with%20blank", FileSource("/with blank")),
        ("hf://owner/name", HubSource("owner/name")),
        ("hf://Qwen/Qwen3-0.6B@main", HubSource("Qwen/Qwen3-0.6B", "main")),
        ("hf://o/n@refs/pr/1", HubSource("o/n", "refs/pr/1")),
    ],
)
def test_known_forms_are_understood(source, meaning):
    assert parse(source) == meaning


@pytest.mark.parametrize(
    "source",
    [
        "",
        "models/a",
        "/models/a",
        "s3://bucket/model",
        "modelscope://o/n",
        "file://relative/folder",
        "file:///nul%00byte",
        "hf://only-a-name",
        "hf://o/n/more",
        "hf://o/n@",
        "hf://../n",
        "hf://o/n@a b",
        "HF://o/n",
    ],
)
def test_other_forms_are_refused_with_the_known_ones(source):
    with pytest.raises(SourceNotSupportedError, match="write file:///absolute") as refused:
        parse(source)
    assert refused.value.problem.code == "source_not_supported"


def test_weights_of_other_programs_are_not_downloaded():
    files = ["config.json", "model.safetensors", "pytorch_model.bin", "model.onnx", "README.md"]
    assert needed(files, ignored(files)) == ["config.json", "model.safetensors"]
    old = ["config.json", "pytorch_model.bin", "tf_model.h5"]
    assert needed(old, ignored(old)) == ["config.json", "pytorch_model.bin"]


def folder_with(tmp_path, **files):
    for name, content in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return f"file://{tmp_path}"


async def fetch(source, tmp_path):
    return await Sources(tmp_path / "cache", {}).fetch(source, lambda _: None)


async def test_a_folder_with_configuration_and_weights_is_taken_as_it_is(tmp_path):
    source = folder_with(tmp_path, **{"config.json": {}, "model.safetensors": ""})
    assert await fetch(source, tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "no config.json"),
        ({"model.safetensors": ""}, "no config.json"),
        ({"config.json": {}}, "no weights"),
        ({"config.json": {}, "weights.txt": ""}, "no weights"),
    ],
)
async def test_a_folder_without_weights_is_refused(tmp_path, files, why):
    with pytest.raises(WeightsNotFoundError, match=why):
        await fetch(folder_with(tmp_path, **files), tmp_path)


async def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(WeightsNotFoundError, match="no such folder"):
        await fetch(f"file://{tmp_path}/nothing", tmp_path)


async def test_a_missing_part_of_the_weights_is_named(tmp_path):
    parts = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    source = folder_with(
        tmp_path,
        **{
            "config.json": {},
            "model-1.safetensors": "",
            "model.safetensors.index.json": {"weight_map": parts},
        },
    )
    with pytest.raises(WeightsNotFoundError, match=r"model-2\.safetensors of its index"):
        await fetch(source, tmp_path)


async def test_a_link_to_nothing_is_no_part(tmp_path):
    source = folder_with(tmp_path, **{"config.json": {}})
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(WeightsNotFoundError, match="no weights"):
        await fetch(source, tmp_path)


def test_a_models_own_files_say_how_it_wants_to_be_served(tmp_path):
    source = folder_with(
        tmp_path,
        **{
            "config.json": {"architectures": ["BertModel"], "hidden_size": 8},
            "modules.json": [
                {"idx": 0, "type": "sentence_transformers.models.Transformer", "path": ""},
                {"idx": 1, "type": "sentence_transformers.models.Pooling", "path": "p"},
            ],
            "p__config.json": {"pooling_mode_mean_tokens": True},
        },
    )
    with pytest.raises(Refusal, match="the mean of all tokens"):
        check_model("embedding", source, tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"architectures": "x"}'])
def test_a_configuration_that_nobody_can_read_is_refused(tmp_path, content):
    source = folder_with(tmp_path, **{"config.json": content})
    with pytest.raises(WeightsNotFoundError, match=r"config\.json cannot be read"):
        check_model("text-generation", source, tmp_path)
