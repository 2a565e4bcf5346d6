"""What dvc.lock was made with, compared with the code and the parameters as they are now."""

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
from pipeline.core.errors import UserError, explained, unknown_name
from pipeline.core.stage_code import FILE, PACKAGES, StageCode
from pipeline.core.yaml_settings import read_yaml
from pipeline.repro.update_targets import CODE, needed_stages


def why(root: Path, key: str) -> list[str]:
    """Explain a key of code.yaml: the files that changed since its stages were locked, by line."""
    code = StageCode(root)
    if key not in code.keys():
        raise unknown_name("key", key, code.keys())
    now, short = code.hashes(key), code.short(key)
    lines = []
    for digits, stages in _locked(root, key).items():
        names = ", ".join(stages)
        if digits == short:
            lines.append(f"{key}: no change since {names} was locked ({digits})")
        elif not (commits := _git(root, "log", "--format=%H", f"-S{digits}", "--", FILE).split()):
            lines.append(f"{key}: {names} was locked with {digits}, which is in no commit")
        else:
            commit = commits[-1].decode()
            lines.append(f"{key}: {names} was locked with {digits}, as of {commit[:12]}:")
            before = _hashes_at(root, commit, key)
            for file in sorted(before.keys() | now.keys()):
                kind = "new" if file not in before else "gone" if file not in now else "changed"
                lines += [f"  {kind:8} {file}"] if before.get(file) != now.get(file) else []
    return lines or [f"{key}: no locked stage has this key"]


def _locked(root: Path, key: str) -> Mapping[str, list[str]]:
    """The hashes with which stages were locked for a key, each with those stages."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    locks = [path.with_name("dvc.lock") for path in paths.params_files(root)]
    for lock in filter(Path.exists, locks):
        stages = read_yaml(lock).get("stages")
        for name, stage in (stages if isinstance(stages, dict) else {}).items():
            digits = stage.get("params", {}).get(FILE, {}).get(key)
            if digits is not None:
                found[str(digits)].append(str(name))
    return found


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
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True).stdout
    except FileNotFoundError:
        raise UserError("git: expected the program, which has the code as it was locked") from None


def out_of_step(targets: Sequence[str]) -> list[str]:
    """Compare dvc.lock with code, parameters and tracked files; return a line for each difference.

    Data need not be there: where a stage reads what another one writes, their hashes in dvc.lock
    are compared with each other. Without targets all stages are compared. The last line counts.
    """
    with explained("dvc:", DvcException):
        with Repo() as repo:
            stages = needed_stages(repo, targets) if targets else list(repo.index.graph)
            hashes = {out.fs_path: out.hash_info for stage in stages for out in stage.outs}
            found = {
                stage.addressing: ", ".join(_differences(stage, hashes))
                for stage in stages
                if stage.addressing != CODE
            }
    lines = [f"{name}: {what}" for name, what in sorted(found.items()) if what]
    return [*lines, f"{len(lines)} of {len(found)} stages are out of step with dvc.lock"]


def _differences(stage: Stage, hashes: Mapping[str, object]) -> Iterator[str]:
    """What of a stage's command and dependencies is not as dvc.lock has it."""
    if stage.cmd_changed:
        yield "command"
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            for file, keys in dep.workspace_status().items():  # or a word: new, deleted
                yield from sorted(keys) if isinstance(keys, Mapping) else [f"{file} {keys}"]
        elif dep.fs_path in hashes:
            yield from [str(dep)] if dep.hash_info != hashes[dep.fs_path] else []
        elif dep.exists and dep.workspace_status():
            yield str(dep)
