"""Models for tests."""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "models" / "tiny-random" / "make.py"


def tiny_random(out: Path, *, seed: int = 1, embedding: bool = False) -> Path:
    """Return ``out``, made into a Llama of 377,000 random weights; it serves on real SGLang too."""
    # By its path: the folder's name is no Python name.
    runpy.run_path(str(SCRIPT))["make"](out, seed=seed, embedding=embedding)
    return out
