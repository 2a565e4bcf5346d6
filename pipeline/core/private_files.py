"""Files of other programs that nobody else on the machine may read, since they are trusted.

DVC unpickles what is in its site cache, and makes that folder for all users. Ray's token opens an
embedded Ray.
"""

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import UserError, require

SITE_CACHE = Path(".dvc") / "site-cache"


def keep_site_cache_private(checkout: Path) -> None:
    """Make DVC's site cache before DVC does, or correct its mode; do nothing outside a checkout."""
    folder = checkout / SITE_CACHE
    if not folder.parent.is_dir():
        return
    trusted = {os.getuid(), folder.parent.stat().st_uid}
    for path in (folder, folder / "repo"):
        path.mkdir(mode=0o700, exist_ok=True)
        _require_owner(path, folder, trusted)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o700)
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # DVC may be at work
            _require_owner(path, folder, trusted)


def _require_owner(path: Path, folder: Path, trusted: set[int]) -> None:
    owner = path.lstat().st_uid
    require(owner in trusted, str(path), f"a file of this user (remove {folder})", owner)


def keep_token_private(variables: Mapping[str, str]) -> None:
    """Make Ray's token of mode 0600 before Ray makes one that all can read; fix an old one.

    Nothing is done where the token is given otherwise, or no token is asked for.
    """
    elsewhere = variables.get("RAY_AUTH_TOKEN") or variables.get("RAY_AUTH_TOKEN_PATH")
    if variables.get("RAY_AUTH_MODE") != "token" or elsewhere:
        return
    path = Path.home() / ".ray" / "auth_token"
    try:
        if path.exists():
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as partial:  # of mode 0600
            partial.write(secrets.token_hex(32))
            partial.flush()
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(partial.name, path)
    except OSError as error:
        raise UserError(f"{path}: expected a private file for Ray's token: {error}") from None
