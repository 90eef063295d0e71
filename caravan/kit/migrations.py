"""Brings an owner's tables to the revision that this version of Caravan knows.

What the newest revision is, the version files themselves say. Alembic runs only when there is
something to migrate, and then as a process of its own (``python -m caravan.kit.migrations``): it
would cost the service memory for life.
"""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import structlog
from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, inspect, select, text

from caravan.kit.backend import DataTooNewError
from caravan.kit.backends import backend

_TURN = 0x6D6967726174
"""The bytes of ``migrat``: an advisory lock beside that of the service."""

log = structlog.get_logger()

_STAMP = Table("caravan", MetaData(), Column("version", String, nullable=False))
"""Says which version of Caravan used the database last."""


def bring_up(engine: Engine, url: str, migrations: str | Path, place: str) -> None:
    """Migrate to the newest revision, or refuse data that a newer version has written."""
    folder = _folder(migrations)
    known = revisions(folder)
    with engine.begin() as connection:
        found = _current(connection)
        if found is not None and found not in known:
            raise DataTooNewError(_too_new(connection, place))
    if found != head(known):
        log.info("database.migrates", place=place, found=found, wanted=head(known))
        _upgrade_elsewhere(url, folder)
    with engine.begin() as connection:
        _stamp(connection)


def revisions(folder: Path) -> dict[str, str | None]:
    """Return every revision in ``folder/versions`` with the one before it."""
    found = {}
    for file in sorted((folder / "versions").glob("*.py")):
        values = _assigned(file)
        if "revision" in values:
            found[str(values["revision"])] = values.get("down_revision")
    return found


def head(known: Mapping[str, str | None]) -> str:
    """Return the revision that no other builds upon; there must be one."""
    (last,) = set(known) - set(known.values())
    return last


def run_env(metadata: MetaData) -> None:
    """Do what an ``env.py`` does: run the migrations on the connection that was handed over.

    ``alembic -x url=… revision --autogenerate`` brings none: it is opened here then.
    """
    from alembic import context  # noqa: PLC0415 - see above

    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection, metadata)
        return
    given = context.get_x_argument(as_dictionary=True)["url"]
    with backend(given).unlocked().begin() as opened:
        _run(opened, metadata)


def _run(connection: Connection, metadata: MetaData) -> None:
    from alembic import context  # noqa: PLC0415 - see above

    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        include_name=lambda name, kind, _: kind != "table" or name in metadata.tables,
    )
    context.run_migrations()


def _folder(migrations: str | Path) -> Path:
    path = Path(migrations)
    if path.is_dir():
        return path
    spec = importlib.util.find_spec(str(migrations))
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"no folder and no package {migrations}")
    return Path(spec.submodule_search_locations[0])


def _assigned(file: Path) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for node in ast.parse(file.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(targets[0], ast.Name) and isinstance(value, ast.Constant):
            values[targets[0].id] = value.value if isinstance(value.value, str) else None
    return values


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def _upgrade_elsewhere(url: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "caravan.kit.migrations"],
        input=json.dumps({"url": url, "folder": str(folder)}),  # its arguments others may read
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the migration in {folder} failed:\n{done.stderr[-4000:]}")


def upgrade(engine: Engine, folder: Path) -> None:
    """Run alembic on ``engine``, in one transaction."""
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # One that a killed service left behind may still be at work.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_TURN})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _stamp(connection: Connection) -> None:
    _STAMP.create(connection, checkfirst=True)
    if connection.scalar(select(_STAMP.c.version)) != _version():
        connection.execute(_STAMP.delete())
        connection.execute(_STAMP.insert().values(version=_version()))


def _too_new(connection: Connection, place: str) -> str:
    writer = None
    if inspect(connection).has_table(_STAMP.name):
        writer = connection.scalar(select(_STAMP.c.version))
    known = writer is not None and writer != _version()
    use = f"use Caravan {writer} or newer" if known else "use the version that wrote it"
    return f"The database {place} was written by a newer Caravan than this {_version()}: {use}."


def _version() -> str:
    try:
        return version("caravan")
    except PackageNotFoundError:
        return "0.0.0"


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    upgrade(backend(asked["url"]).unlocked(), Path(asked["folder"]))
