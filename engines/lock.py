"""Write the locks again from the ``engine`` extra: ``python engines/lock.py [cpu|cuda …]``.

SGLang is pinned once, in pyproject.toml. What comes out names every package with its hashes and no
registry address. Standard library and ``uv`` only; run it after any change of the extra.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ONLY = "sys_platform == 'linux' and platform_machine == 'x86_64' and python_full_version < '3.12'"
"""Where engines run; packages for other machines stay out of the locks."""

FLAGS = [
    *("--universal", "--python-version", "3.11", "--generate-hashes", "--upgrade", "--quiet"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--annotation-style", "line"),
]
HEAD = "# Written by `python engines/lock.py` from the `engine` extra of pyproject.toml.\n"


def lock(kind: str) -> None:
    """Write ``engines/<kind>/requirements.txt``."""
    target = HERE / kind / "requirements.txt"
    with tempfile.TemporaryDirectory() as folder:
        # uv takes the machines to resolve for from a project only: here is one of the engine.
        (Path(folder) / "pyproject.toml").write_text(_project(kind))
        overrides = HERE / kind / "overrides.txt"
        extra = ["--override", str(overrides)] if overrides.is_file() else []
        command = [
            "uv",
            "pip",
            "compile",
            "pyproject.toml",
            *FLAGS,
            *extra,
            "--output-file",
            "out.txt",
        ]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
        target.write_text(HEAD + _without_paths(Path(folder, "out.txt").read_text()))
    sys.stderr.write(f"{target.relative_to(HERE.parent)} written\n")


def _project(kind: str) -> str:
    engine = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    wanted = [*engine["project"]["optional-dependencies"]["engine"], *_beside(kind)]
    return (
        f'[project]\nname = "engine-{kind}"\nversion = "0"\nrequires-python = "==3.11.*"\n'
        f"dependencies = {json.dumps(wanted)}\n[tool.uv]\nenvironments = {json.dumps([ONLY])}\n"
    )


def _beside(kind: str) -> list[str]:
    path = HERE / kind / "requirements.in"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [wanted for line in lines if (wanted := line.partition("#")[0].strip())]


def _without_paths(text: str) -> str:
    return text.replace(f"--override {HERE}/", "engines/")


if __name__ == "__main__":
    for name in sys.argv[1:] or ["cpu", "cuda"]:
        lock(name)
