"""Reading an output: only whole and unaltered, and only what is asked for.

What DVC restored from its cache has its seal, and maybe the origin of another run, which is passed
over. Outputs of older versions have no seal: what they say of themselves is checked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pipeline.artifacts.artifact import SEAL, Artifact, Kind
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.core.records import read_object, value_of

RECORD, WEIGHTS, WEIGHTS_SHA256 = "metrics.json", "model.safetensors", "weights_sha256"


def read(artifact: Artifact) -> Path:
    """Return the folder of an output that is whole, unaltered, and of what is there now."""
    main = artifact.folder / artifact.kind.main
    if not main.is_file():
        raise UserError(f"{main}: missing; run `{artifact.command}`")
    again = f"run `{artifact.command}`"
    check_files(artifact.folder, again)
    sealed = seal(artifact.folder)
    if sealed is not None:
        made_of = value_of(sealed, "inputs", dict, str(artifact.folder / SEAL))
    else:
        keys = artifact.kind.recorded
        said = read_object(main) if keys else {}
        made_of = {one.label: said.get(keys.get(one.kind.verb, "")) for one in artifact.inputs}
    _check_inputs(artifact, made_of, again)
    return artifact.folder


def seal(folder: Path) -> dict[str, object] | None:
    """Read what the output of a folder was made of; None if there is none."""
    path = folder / SEAL
    return read_object(path) if path.is_file() else None


def check_files(folder: Path, again: str) -> None:
    """Refuse a folder with a file missing or altered since it was written.

    Weights next to a record in `results/` must be the record's. `again` says what to do.
    """
    sealed = seal(folder)
    files = {} if sealed is None else value_of(sealed, "files", dict, str(folder / SEAL))
    for name, sha256 in files.items():
        _check_file(folder / name, str(sha256), "the file that was written", again)
    if (folder / RECORD).is_file() and (folder / WEIGHTS).is_file():
        said = read_object(folder / RECORD).get(WEIGHTS_SHA256)
        if said is not None:
            _check_file(folder / WEIGHTS, str(said), "the weights of the record", again)


def _check_file(path: Path, sha256: str, what: str, again: str) -> None:
    if not path.is_file():
        raise UserError(f"{path}: missing; {again}")
    found = sha256_of(path)
    if found != sha256:
        raise UserError(f"{path}: expected {what} ({sha256[:12]}), got {found[:12]}; {again}")


def _check_inputs(artifact: Artifact, made_of: Mapping[str, object], again: str) -> None:
    """Refuse what was made of another input than is there; one that is not there may be any."""
    for one in artifact.inputs:
        then, now = made_of.get(one.label), one.content_sha256()
        if None not in (then, now) and then != now:
            raise UserError(
                f"{artifact.label}: expected an output of {one.label} as it is "
                f"({str(now)[:12]}), got one of what it was before ({str(then)[:12]}); {again}"
            )


def read_origin(folder: Path, kind: Kind) -> dict[str, object] | None:
    """Read where an output comes from; None if that is not known, or known of another run alone."""
    path = folder / kind.origin
    if not path.is_file():
        return None
    found = read_object(path)
    said = cast("str | None", found.get(kind.hash_key))
    main = folder / kind.main
    if said is not None and main.is_file() and said != sha256_of(main):
        return None
    return found
