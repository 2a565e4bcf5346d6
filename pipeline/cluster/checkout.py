"""A clean export of the checkout for a job: what it needs, and no secrets."""

import fnmatch
import logging
import os
import shutil
import subprocess
import uuid
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
    """Return whether keys and passwords are kept under a path of this name."""
    path = PurePosixPath(name.lower())
    folders = any(part in SECRET_FOLDERS for part in path.parts[:-1])
    return folders or any(fnmatch.fnmatchcase(path.name, pattern) for pattern in SECRET_FILES)


def select(root: Path) -> list[str]:
    """Return the files of a checkout that a job needs: what Git tracks, as it is now.

    Never what looks like a secret, or a link to anything but another file of the selection.
    """
    tracked = _git_files(root, "--cached")
    names = [name for name in tracked if PurePosixPath(name).parts[0] not in LEFT_OUT]
    here = {name for name in names if (root / name).is_file()}
    secret = {name for name in here if looks_secret(name)}
    real = {root.resolve() / name for name in here - secret}
    links = {name for name in here - secret if (root / name).resolve() not in real}
    for left, why in (
        (_git_files(root, "--others", "--exclude-standard"), "Git does not track them"),
        (secret, "they look like secrets"),
        (links, "they link elsewhere"),
    ):
        staying = sorted(n for n in left if PurePosixPath(n).parts[0] not in LEFT_OUT)
        if staying:
            log.warning("left out, since %s: %s", why, ", ".join(staying))
    return sorted(here - secret - links)


def _git_files(root: Path, *which: str) -> set[str]:
    try:
        run = subprocess.run(
            ["git", "ls-files", "-z", *which], cwd=root, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        raise UserError(f"{root}: expected a Git checkout, whose files make the job") from None
    return {os.fsdecode(name) for name in run.stdout.split(b"\0") if name}


def export(root: Path, folder: Path) -> str:
    """Copy what a job needs into an existing folder; return the commit."""
    names = select(root)
    total = sum((root / name).stat().st_size for name in names)
    require(total < LARGEST_PACKAGE, str(root), f"< {LARGEST_PACKAGE:,} bytes in Git", total)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)
    if (folder / ".dvc").is_dir():
        (folder / ".dvc" / "config.local").write_text(NO_SCM, encoding="utf-8")
    # Jobs of one content would share a folder on the cluster, with DVC's lock and all outputs.
    (folder / ".arcore-job").write_text(f"{uuid.uuid4().hex}\n", encoding="utf-8")
    return origin.commit(root)
