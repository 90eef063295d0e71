"""The engine that workers start: given by the environment, or installed when first needed."""

import os
import shlex
import shutil

from caravan.cli.output import Output
from caravan.cli.programs import Engine
from caravan.contracts.errors import UnavailableError
from engines import install

COMMAND = "CARAVAN_ENGINE_COMMAND"
KIND = "CARAVAN_ENGINE_KIND"


def ensure(kind: str | None, out: Output) -> Engine:
    """Return the engine to use, installed first if it must be: some minutes, with progress.

    ``CARAVAN_ENGINE_COMMAND`` (shell words) and ``CARAVAN_ENGINE_KIND`` take another one as it is.
    """
    if command := os.environ.get(COMMAND):
        return Engine(kind=os.environ.get(KIND) or kind or "cpu", command=command)
    kind = kind or _fitting()
    with out.progress(f"Engine: {kind}") as say:
        try:
            program = install.ensure(kind, say=lambda line: say(line.strip()))
        except install.InstallError as error:
            raise UnavailableError(str(error)) from error
    return Engine(kind=kind, command=shlex.quote(str(program)), environment=install.place(kind))


def _fitting() -> str:
    return "cuda" if shutil.which("nvidia-smi") else "cpu"
