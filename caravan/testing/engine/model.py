"""What the fake engine reads of a model's folder."""

from pathlib import Path

import msgspec
from msgspec import Struct


class Model(Struct, frozen=True, kw_only=True):
    """The part of ``config.json`` that shows in answers."""

    architectures: tuple[str, ...] = ("LlamaForCausalLM",)
    model_type: str = "llama"
    hidden_size: int = 128
    max_position_embeddings: int = 4096


def read(folder: str) -> Model:
    """Return the model in ``folder``; a missing or broken one raises, as it ends SGLang's start."""
    data = Path(folder, "config.json").read_bytes()
    return msgspec.json.decode(data, type=Model)
