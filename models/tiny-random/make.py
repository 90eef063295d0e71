# ruff: noqa: INP001 - run as a script: the folder's name is no Python name
"""Make a Llama of 377,000 seeded random weights: ``python models/tiny-random/make.py OUT``.

It says nothing of sense, but everything around it is real: tokenizer, chat template, weights that
SGLang serves. Standard library only, under two seconds, the same bytes for the same seed.
"""

import argparse
import json
import os
import random
import shutil
import struct
import sys
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HIDDEN, LAYERS, HEADS, KV_HEADS, INNER, VOCABULARY = 128, 2, 8, 4, 256, 320
CONTEXT_TOKENS = 4096

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END = 256 + SPECIALS.index("<|im_end|>")
SAID = b"abcdefghijklmnopqrstuvwxyz ,."
"""The bytes that the model says of itself; the rest it only reads, or says under a grammar."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Matrix = tuple[Sequence[int], array]  # type: ignore[type-arg]  # array is generic for checkers only


def config() -> dict[str, object]:
    """Return ``config.json``."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "intermediate_size": INNER,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT_TOKENS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 256,
        "eos_token_id": END,
        "pad_token_id": 256,
        "torch_dtype": "bfloat16",
    }


def weights(seed: int) -> dict[str, Matrix]:
    """Return the weights by name.

    Dimension 0 of the residual is the same for every token, and no layer writes it: through it the
    output layer gives each token a fixed weight, so that answers are readable letters and end.
    """
    draw = random.Random(seed)  # noqa: S311 - repeatable, not secret
    found = {"model.embed_tokens.weight": _normal(draw, VOCABULARY, HIDDEN, 1.0)}
    _set_column(found["model.embed_tokens.weight"], [4.0] * VOCABULARY)
    for layer in range(LAYERS):
        found |= {f"model.layers.{layer}.{name}": made for name, made in _layer(draw)}
    found["model.norm.weight"] = _ones()
    found["lm_head.weight"] = _normal(draw, VOCABULARY, HIDDEN, 0.2)
    _set_column(found["lm_head.weight"], [_liking(token) for token in range(VOCABULARY)])
    return found


def _liking(token: int) -> float:
    if token == END:
        return 0.6  # about one token in a hundred ends the answer
    return 0.0 if token < 256 and token in SAID else -20.0


def _layer(draw: random.Random) -> Iterator[tuple[str, Matrix]]:
    keys = HIDDEN // HEADS * KV_HEADS
    yield "input_layernorm.weight", _ones()
    yield "post_attention_layernorm.weight", _ones()
    for name, rows, columns in (
        ("self_attn.q_proj", HIDDEN, HIDDEN),
        ("self_attn.k_proj", keys, HIDDEN),
        ("self_attn.v_proj", keys, HIDDEN),
        ("self_attn.o_proj", HIDDEN, HIDDEN),
        ("mlp.gate_proj", INNER, HIDDEN),
        ("mlp.up_proj", INNER, HIDDEN),
        ("mlp.down_proj", HIDDEN, INNER),
    ):
        made = _normal(draw, rows, columns, columns**-0.5)
        if name in {"self_attn.o_proj", "mlp.down_proj"}:
            made[1][:columns] = array("f", bytes(4 * columns))  # what would write dimension 0
        yield f"{name}.weight", made


def _normal(draw: random.Random, rows: int, columns: int, scale: float) -> Matrix:
    return (rows, columns), array("f", (draw.gauss(0, scale) for _ in range(rows * columns)))


def _ones() -> Matrix:
    return (HIDDEN,), array("f", [1.0] * HIDDEN)


def _set_column(matrix: Matrix, values: Sequence[float]) -> None:
    """Set the first column, one value for each row."""
    matrix[1][:: matrix[0][1]] = array("f", values)


def safetensors(tensors: Mapping[str, Matrix]) -> bytes:
    """Return a safetensors file of ``tensors`` in bfloat16."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, (shape, values) in tensors.items():
        data = _bfloat16(values)
        header[name] = {
            "dtype": "BF16",
            "shape": list(shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(body)


def _bfloat16(values: array) -> bytes:  # type: ignore[type-arg]  # as above
    # The upper half of a float32, which is how bfloat16 came about.
    return array("H", array("H", values.tobytes())[1::2]).tobytes()


def tokenizer() -> dict[str, object]:
    """Return ``tokenizer.json``: one token per byte, and the three special ones."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": 256 + i, "content": text, "special": True, **special}
            for i, text in enumerate(SPECIALS)
        ],
        "pre_tokenizer": level | {"use_regex": False},
        "decoder": level | {"use_regex": False},
        "model": {"type": "BPE", "vocab": _alphabet(), "merges": []},
    }


def _alphabet() -> dict[str, int]:
    """Name each byte by a printable character, as GPT-2 did and the ByteLevel decoder undoes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    named = {chr(byte): byte for byte in plain}
    named |= {chr(256 + i): byte for i, byte in enumerate(others)}
    return dict(sorted(named.items(), key=lambda entry: entry[1]))


def tokenizer_config() -> dict[str, object]:
    """Return ``tokenizer_config.json``."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[0],
        "pad_token": SPECIALS[0],
        "eos_token": "<|im_end|>",
        "model_max_length": CONTEXT_TOKENS,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


POOLING = {"word_embedding_dimension": HIDDEN, "pooling_mode_lasttoken": True}
"""What SGLang does with a decoder: the last token's vector stands for the text."""


def make(out: Path, *, seed: int = 1, embedding: bool = False) -> None:
    """Make the model's folder ``out``, whole or not at all; one that is there already stays."""
    if (out / "config.json").is_file():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        _write(folder, seed, embedding=embedding)
        folder.chmod(0o755)
        os.replace(folder, out)  # noqa: PTH105 - replaces an empty folder too
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, seed: int, *, embedding: bool) -> None:
    if embedding:
        (folder / "1_Pooling").mkdir()
        _write_json(folder / "1_Pooling" / "config.json", POOLING)
    (folder / "model.safetensors").write_bytes(safetensors(weights(seed)))
    _write_json(folder / "tokenizer.json", tokenizer())
    _write_json(folder / "tokenizer_config.json", tokenizer_config())
    _write_json(folder / "config.json", config())


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder of the model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedding", action="store_true", help="say that it is for embeddings")
    asked = parser.parse_args(arguments)
    make(asked.out, seed=asked.seed, embedding=asked.embedding)
    return 0


if __name__ == "__main__":
    sys.exit(main())
