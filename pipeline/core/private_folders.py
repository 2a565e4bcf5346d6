"""Folders of other programs that nobody else on the machine may enter: what they hold is trusted.

DVC unpickles what is in its site cache, and makes that folder for all users.
"""

import contextlib
import os
import stat
from pathlib import Path

from pipeline.core.errors import require

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
