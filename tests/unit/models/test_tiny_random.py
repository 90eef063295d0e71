"""The model of random weights: the same bytes for a seed, in the form that SGLang loads."""

import json
import runpy
import struct

import pytest

from caravan.testing.models import SCRIPT, tiny_random


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_random(tmp_path_factory.mktemp("models") / "one")


def header(folder):
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), len(data) - 8 - length


def test_a_seed_gives_the_same_bytes(model, tmp_path):
    assert contents(tiny_random(tmp_path / "again")) == contents(model)


def test_another_seed_gives_other_weights_and_the_same_tokenizer(model, tmp_path):
    other, one = contents(tiny_random(tmp_path / "other", seed=2)), contents(model)
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors"}


def test_the_weights_fill_the_file_without_a_gap(model):
    tensors, size = header(model)
    ends = 0
    for name, tensor in tensors.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        numbers = 1
        for length in tensor["shape"]:
            numbers *= length
        assert (begin, end - begin) == (ends, 2 * numbers), name
        ends = end
    assert ends == size


def test_the_weights_are_those_of_its_configuration(model):
    tensors, _ = header(model)
    config = json.loads((model / "config.json").read_text())
    assert tensors["lm_head.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]
    layers = {name.split(".")[2] for name in tensors if name.startswith("model.layers.")}
    assert len(layers) == config["num_hidden_layers"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    assert tensors["model.layers.0.self_attn.k_proj.weight"]["shape"] == [keys, 128]


def test_every_byte_has_a_token_and_the_special_ones_follow(model):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    assert sorted(tokenizer["model"]["vocab"].values()) == list(range(256))
    assert [token["id"] for token in tokenizer["added_tokens"]] == [256, 257, 258]
    assert json.loads((model / "config.json").read_text())["eos_token_id"] == 258


def test_one_for_embeddings_says_how_it_pools(tmp_path):
    folder = tiny_random(tmp_path / "vectors", embedding=True)
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_lasttoken"]


def test_a_folder_that_is_there_stays_as_it_is(model):
    before = (model / "model.safetensors").stat().st_mtime_ns
    tiny_random(model, seed=2)
    assert (model / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_of_others_is_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(OSError, match="not empty"):
        tiny_random(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_command_makes_it_too(model, tmp_path):
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main([str(tmp_path / "made"), "--seed", "1"]) == 0
    assert contents(tmp_path / "made") == contents(model)
