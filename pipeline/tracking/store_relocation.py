"""An SQLite store whose folder was moved: its artifact locations are rewritten.

MLflow writes absolute locations alone, so that after a move neither runs nor models would find
their files, and a copied project would write into the one that it was copied from.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sqlite3
from pathlib import Path

from pipeline.core import paths, private_apis

log = logging.getLogger(__name__)

FOLDER = "mlartifacts"


def artifact_root() -> str:
    """Return where a local store keeps artifacts: `<root>/mlartifacts`, as a file URI."""
    return (paths.root() / FOLDER).as_uri()


def update_locations(database: Path) -> None:
    """Rewrite the locations of the root's own store that lead into another `mlartifacts`.

    Says so in one line. A store elsewhere, or locations that the user chose, stay as they are.

    Arguments:
        database: the SQLite file.
    """
    if database.resolve() != (paths.root() / "mlflow.db").resolve():
        return
    if not _roots(database, unused=True):
        return
    with open(database.with_name(database.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        foreign = _roots(database)
        for root in _roots(database, unused=True):
            _rewrite(database, root)
    if foreign:
        log.warning(
            "warning: %s was moved here from %s; its artifact locations were rewritten (models "
            "whose files were left behind: python -m stages.register --all)",
            database, ", ".join(_folder(root) for root in foreign),
        )  # fmt: skip


def _roots(database: Path, unused: bool = False) -> list[str]:
    """Return the roots of experiments, `.../mlartifacts` as URIs, that are not this project's.

    Arguments:
        database: the SQLite file.
        unused: count MLflow's default experiment too, which every store has and none of ours uses.
    """
    query = "SELECT artifact_location FROM experiments"
    if not unused:
        query += " WHERE experiment_id <> 0"
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        try:
            rows = connection.execute(query).fetchall()
        except sqlite3.OperationalError:  # no store of MLflow, which will say so itself
            return []
    marker, ours = f"/{FOLDER}/", artifact_root()
    found = {
        location[: location.rindex(marker) + len(marker) - 1]
        for (location,) in rows
        if location and location.startswith("file://") and marker in location
        if not location.startswith(ours + "/")
    }
    return sorted(found)


def _rewrite(database: Path, root: str) -> None:
    new = artifact_root()
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for table, column in private_apis.ARTIFACT_LOCATIONS:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE substr({column}, 1, ?) = ?",
                (new, len(root) + 1, len(root) + 1, root + "/"),
            )


def _folder(root: str) -> str:
    return root.removeprefix("file://").removesuffix(f"/{FOLDER}")
