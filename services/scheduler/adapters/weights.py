"""Looks whether a source can be there, as far as this machine can tell."""

import asyncio
from pathlib import Path

from services.scheduler.core.errors import WeightsNotFoundError

FILE = "file://"


class LocalWeights:
    """``file://`` sources of workers that run on this machine; hubs answer to the worker alone."""

    async def check(self, source: str) -> None:
        """Refuse a folder that no engine could load: it must exist and hold a config.json."""
        if source.startswith(FILE):
            await asyncio.to_thread(_check, Path(source.removeprefix(FILE)))


class ForeignWeights:
    """Workers run elsewhere and see other folders: each decides for itself."""

    async def check(self, source: str) -> None:
        """Let every source pass."""


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise WeightsNotFoundError(
            f"{folder} is no folder here: give the one that holds the model's config.json",
            param="source",
        )
    if not (folder / "config.json").is_file():
        raise WeightsNotFoundError(
            f"{folder} holds no config.json: give the folder of a model in Hugging Face's form",
            param="source",
        )
