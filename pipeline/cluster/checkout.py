"""A clean export of the checkout for a job: what it needs, and no secrets."""

from __future__ import annotations

import fnmatch
import logging
import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.artifacts import origin
from pipeline.core.errors import UserError, require

log = logging.getLogger(__name__)
LARGEST_PACKAGE = 50_000_000  # bytes; the dashboard refuses requests of 100 MiB


LEFT_OUT = ("tests", "results", "benchmarks", "docs", "deploy", ".ci", ".rayignore")


SECRET_FILES = (
    ".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx",
    "*credential*", "secret*", "*service-account*", "*service_account*", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".pgpass", ".my.cnf", ".s3cfg", ".boto",
    ".npmrc", ".pypirc", ".git-credentials", ".dockercfg", "kubeconfig*", "*token", "*token.*",
    "*_token*", "passwords*", "password.*", "config.local",
)  # fmt: skip


SECRET_FOLDERS = (
    ".aws", ".azure", ".config", ".docker", ".gcloud", ".gnupg", ".kube", ".ssh", "secrets",
)  # fmt: skip


# A job has no .git, without which DVC refuses to work without this setting.
NO_SCM = "[core]\n    no_scm = true\n"


def looks_secret(name: str) -> bool:
    """Return whether keys and passwords are kept under a path of this name.

    Example:
        >>> [looks_secret(n) for n in ("deploy/.env", "a/id_rsa", ".aws/config", "stages/env.py")]
        [True, True, True, False]
    """
    path = PurePosixPath(name.lower())
    folders = any(part in SECRET_FOLDERS for part in path.parts[:-1])
    return folders or any(fnmatch.fnmatchcase(path.name, pattern) for pattern in SECRET_FILES)


def select(root: Path, named: Sequence[str] = ()) -> tuple[list[str], bool]:
    """Return the files of a checkout that a job needs, and whether some are new to Git.

    Tracked files as they are now, and new ones that are named; never what looks like a secret, or
    a link to anything but another file of the selection. New files that stay are listed.

    Arguments:
        root: the checkout.
        named: new files, or folders of them, that go along.

    Raises:
        UserError: if `root` is not in a Git checkout, or a name is of no file that Git does not
            ignore.
    """
    tracked, new = _git_files(root, "--cached"), _git_files(root, "--others", "--exclude-standard")
    chosen = set()
    for name in named:
        below = {n for n in new | tracked if PurePosixPath(n).is_relative_to(PurePosixPath(name))}
        expected = "a file or folder of the checkout that Git does not ignore"
        require(bool(below), "--with", expected, name)
        chosen |= below & new
    staying = sorted(n for n in new - chosen if PurePosixPath(n).parts[0] not in LEFT_OUT)
    if staying:
        log.warning(
            "left out, since Git does not track them (--with sends them): %s", ", ".join(staying)
        )
    new = chosen
    names = [n for n in tracked | new if PurePosixPath(n).parts[0] not in LEFT_OUT]
    secret = sorted(n for n in names if looks_secret(n) and (root / n).exists())
    fit = {n for n in names if not looks_secret(n) and (root / n).is_file()}
    real = {root.resolve() / n for n in fit}
    links = {n for n in fit if (root / n).resolve() not in real}
    if secret:
        log.warning("left out, since they look like secrets: %s", ", ".join(secret))
    if links:
        log.warning("left out, since they link elsewhere: %s", ", ".join(sorted(links)))
    return sorted(fit - links), bool((fit - links) & new)


def _git_files(root: Path, *which: str) -> set[str]:
    try:
        run = subprocess.run(
            ["git", "ls-files", "-z", *which], cwd=root, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        raise UserError(f"{root}: expected a Git checkout, whose files make the job") from None
    return {os.fsdecode(name) for name in run.stdout.split(b"\0") if name}


def export(root: Path, folder: Path, named: Sequence[str] = ()) -> str:
    """Copy what a job needs into `folder`; return the commit, `-dirty` if it lacks some of that.

    Arguments:
        root: the checkout.
        folder: an existing one.
        named: see `select`.

    Raises:
        UserError: if `root` is not in a Git checkout, or the files are too large for a job.
    """
    names, new = select(root, named)
    sizes = {name: (root / name).stat().st_size for name in names}
    if sum(sizes.values()) >= LARGEST_PACKAGE:
        largest = sorted(names, key=lambda name: -sizes[name])[:3]
        raise UserError(
            f"{root}: expected less than {LARGEST_PACKAGE / 1e6:g} MB of files that Git tracks "
            f"or --with names, got {sum(sizes.values()) / 1e6:.1f} MB; the largest: "
            + ", ".join(f"{name} ({sizes[name] / 1e6:.1f} MB)" for name in largest)
        )
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)
    if (folder / ".dvc").is_dir():
        (folder / ".dvc" / "config.local").write_text(NO_SCM, encoding="utf-8")
    # Jobs of one content would share a folder on the cluster, with DVC's lock and all outputs.
    (folder / ".arcore-job").write_text(f"{uuid.uuid4().hex}\n", encoding="utf-8")
    commit = origin.commit(root)
    return f"{commit}-dirty" if new and not commit.endswith(("-dirty", "unknown")) else commit
