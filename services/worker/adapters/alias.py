"""The name under which an engine knows its model."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def named(model: Path, name: str, folder: Path | None) -> Iterator[Path]:
    """Give ``model`` the relative path ``name`` in ``folder``, or in one that goes again.

    Yields the folder, in which the engine has to work. SGLang tells its clients the path that it
    was given (embeddings have it as their ``model``): the model id, then, and no path of a machine.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="caravan-engine-") as made:
            yield _linked(model, name, Path(made))
    else:
        yield _linked(model, name, folder)


def _linked(model: Path, name: str, folder: Path) -> Path:
    link = folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)  # of an earlier life, perhaps to other weights
    link.symlink_to(model.resolve(), target_is_directory=True)
    return folder
