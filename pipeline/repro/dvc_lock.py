"""What dvc.lock was made with, compared with the code and the parameters as they are now."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage

from pipeline.core import paths
from pipeline.core.errors import UserError, one_line, unknown_name
from pipeline.core.stage_code import FILE, PACKAGES, StageCode
from pipeline.core.yaml_settings import read_yaml
from pipeline.repro.stage_plan import needed_stages

NEVER_LOCKED = ("code",)  # which always run, or are Git's


def why(root: Path, key: str) -> list[str]:
    """Explain a key of code.yaml: which files changed since its stages were locked, one per line.

    Raises:
        UserError: for an unknown key.
    """
    code = StageCode(root)
    if key not in code.keys():
        raise unknown_name("key", key, code.keys())
    now, short = code.hashes(key), code.short(key)
    locked = _locked(root, key)
    if not locked:
        return [f"{key}: no locked stage has this key"]
    lines = []
    for digits, stages in locked.items():
        names = ", ".join(stages)
        if digits == short:
            lines.append(f"{key}: no change since {names} was locked ({digits})")
        elif (commit := _commit_of(root, digits)) is None:
            lines.append(f"{key}: {names} was locked with {digits}, which is in no commit")
        else:
            lines.append(f"{key}: {names} was locked with {digits}, as of {commit[:12]}:")
            lines += _changes(_hashes_at(root, commit, key), now)
    return lines


def _locked(root: Path, key: str) -> Mapping[str, list[str]]:
    """The hashes with which stages were locked for a key, each with those stages."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths.params_files(root):
        lock = path.with_name("dvc.lock")
        stages = read_yaml(lock).get("stages") if lock.exists() else {}
        for name, stage in (stages if isinstance(stages, dict) else {}).items():
            digits = stage.get("params", {}).get(FILE, {}).get(key)
            if digits is not None:
                found[str(digits)].append(str(name))
    return found


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """The files that differ, one per line."""
    for file in sorted(before.keys() | now.keys()):
        if before.get(file) != now.get(file):
            kind = "new" if file not in before else "gone" if file not in now else "changed"
            yield f"  {kind:8} {file}"


def _commit_of(root: Path, digits: str) -> str | None:
    """The commit that brought a hash into code.yaml; None if there is none."""
    try:
        found = _git(root, "log", "--format=%H", f"-S{digits}", "--", FILE).decode().split()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[-1] if found else None


def _hashes_at(root: Path, commit: str, key: str) -> Mapping[str, str]:
    """The files that a key covers at a commit; none if there was no such stage or model."""
    there = _git(root, "ls-tree", "--name-only", commit).decode().split()
    archive = _git(root, "archive", commit, *(name for name in PACKAGES if name in there))
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        try:
            return StageCode(Path(folder)).hashes(key)
        except UserError:
            return {}


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout


def out_of_step(targets: Sequence[str]) -> list[str]:
    """Compare dvc.lock with code, parameters and tracked files; return a line for each difference.

    Data need not be there: where a stage reads what another one writes, their hashes in dvc.lock
    are compared with each other. The last line counts.

    Arguments:
        targets: of DVC, with all that they need; none for all stages.

    Raises:
        UserError: for an unknown target, or files that DVC cannot read.
    """
    try:
        with Repo() as repo:
            stages = needed_stages(repo, targets) if targets else list(repo.index.graph)
            hashes = {out.fs_path: out.hash_info for stage in stages for out in stage.outs}
            judged = sorted(
                (stage for stage in stages if stage.addressing not in NEVER_LOCKED),
                key=lambda stage: stage.addressing,
            )
            differences = {stage.addressing: _differences(stage, hashes) for stage in judged}
    except DvcException as error:
        raise UserError(f"dvc: {one_line(error)}") from error
    lines = [f"{name}: {', '.join(found)}" for name, found in differences.items() if found]
    return [*lines, f"{len(lines)} of {len(judged)} stages are out of step with dvc.lock"]


def _differences(stage: Stage, hashes: Mapping[str, object]) -> list[str]:
    """What of a stage's command and dependencies is not as dvc.lock has it."""
    found = ["command"] if stage.cmd_changed else []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            found += _keys(dep.workspace_status())
        elif dep.fs_path in hashes:
            found += [str(dep)] if dep.hash_info != hashes[dep.fs_path] else []
        elif dep.exists and dep.workspace_status():
            found.append(str(dep))
    return found


def _keys(status: Mapping[str, object]) -> Iterator[str]:
    """The parameters that differ, or the file with DVC's word for it: new, deleted."""
    for file, keys in status.items():
        yield from sorted(keys) if isinstance(keys, Mapping) else [f"{file} {keys}"]
