"""Turn a GGUF into safetensors, tokenizer and chat template: ``convert.py FILE.gguf OUT``.

Run by make.py with the Python of the engine's environment, where transformers is.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(gguf: Path, out: Path) -> None:
    """Write to ``out`` what SGLang loads, in bfloat16: it cannot run GGUF's numbers on a CPU."""
    at = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**at).save_pretrained(out)
    AutoModelForCausalLM.from_pretrained(**at, dtype=torch.bfloat16).save_pretrained(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
