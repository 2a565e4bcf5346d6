"""Git in folders of tests."""

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    """Make a folder a checkout, with a commit of all that is not ignored."""
    for arguments in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "All")):
        git(folder, *arguments)
