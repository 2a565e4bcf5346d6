"""What a use leaves: `use.json` and `timing.json`, beside the files that the former names.

evaluation/<dataset>/uses/<experiment>/<use>/ is one use of one model.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.core.file_hash import sha256_of
from pipeline.core.records import Record, left_out, read_object, write_object
from pipeline.data.manifest import read_manifest
from pipeline.experiments import naming
from pipeline.uses.listing import USES

log = logging.getLogger(__name__)
FILE, TIMING = "use.json", "timing.json"


@dataclass(frozen=True, kw_only=True)
class Number(Record):
    """A number of a use.

    Attributes:
        name: the same for all models; "a: b" is the column b of the table a.
        value: the number.
        stderr: its standard error, None where it has none.
        unit: in words, "" without one.
        sign: of the value: nothing, or ~ for an estimate.
    """

    name: str
    value: float
    stderr: float | None = left_out(None)
    unit: str = left_out("")
    sign: str = left_out("")


@dataclass(frozen=True, kw_only=True)
class Shown(Record):
    """A file to look at or to listen to.

    Attributes:
        file: its name in the use's folder: .png or .wav.
        caption: what it shows.
    """

    file: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class UseRecord(Record):
    """A use of one model.

    Attributes:
        use: its name.
        experiment: whose model it is.
        model: by name.
        dataset: that the model was trained on.
        weights_sha256, dataset_sha256: of the model's weights and of the shards.
        settings: that it ran with.
        notes: what to know of the numbers, one sentence or more.
        numbers, shown: what came out.
        others: hashes of the weights of other experiments that it was compared with, by name;
            None for none.
        other_datasets: hashes of the shards of other datasets that it read, by name; None for none.
    """

    use: str
    experiment: str
    model: str
    dataset: str
    weights_sha256: str
    dataset_sha256: str
    settings: dict[str, object]
    notes: str
    numbers: tuple[Number, ...]
    shown: tuple[Shown, ...]
    others: dict[str, str] | None = left_out(None)
    other_datasets: dict[str, str] | None = left_out(None)


@dataclass(frozen=True, kw_only=True)
class Origin(Record):
    """Where a use ran, `timing.json`: it differs from run to run, so that DVC ignores it.

    Attributes:
        device: that it computed on.
        seconds: that it took.
        commit: of the code.
    """

    device: str
    seconds: float
    commit: str


def folder_of(dataset: str, experiment: str) -> Path:
    """Return the folder of the uses of an experiment."""
    return paths.root() / "evaluation" / dataset / "uses" / experiment


def write(record: UseRecord, origin: Origin, folder: Path) -> None:
    """Write a record, and where it comes from, into a use's folder."""
    write_object(folder / FILE, record.to_dict())
    described = {"use_sha256": sha256_of(folder / FILE), **origin.to_dict()}
    write_object(folder / TIMING, described)


def read(folder: Path) -> UseRecord:
    """Read the record of a use's folder.

    Raises:
        UserError: naming the file, if it is missing or malformed.
    """
    path = folder / FILE
    return UseRecord.from_dict(read_object(path), str(path))


def read_origin(folder: Path) -> Origin | None:
    """Read where the record of a use's folder comes from; None where `timing.json` is of another.

    DVC restores `use.json` from its cache, and leaves a `timing.json` that is there as it is.

    Raises:
        UserError: naming the file that is malformed.
    """
    path = folder / TIMING
    if not path.is_file():
        return None
    found = read_object(path)
    if found.get("use_sha256") != sha256_of(folder / FILE):
        return None
    return Origin.from_dict(found, str(path))


def files(dataset: str) -> list[Path]:
    """Return the files of a dataset's uses, in order, of none that was changed by hand."""
    found = []
    for path in sorted(folder_of(dataset, "").glob(f"*/*/{FILE}")):
        names = (path.parent.name, path.parent.parent.name)
        if not any(name.startswith(".") or naming.is_variant(name) for name in names):
            found.append(path)
    return found


def read_all(dataset: str, dataset_sha256: str) -> list[tuple[UseRecord, Path]]:
    """Return the records of a dataset's uses with their folders, in the order of `USES`.

    What was changed by hand has a name of its own and is none of them; what was made with other
    data than the shards, or weights than those in models/ (where there are none, in results/), is
    left out, with a warning.

    Raises:
        UserError: naming the file that is malformed.
    """
    found = []
    for path in files(dataset):
        folder = path.parent
        record = read(folder)
        fits = record.use in USES and record.dataset_sha256 == dataset_sha256
        for name, sha256 in {
            record.experiment: record.weights_sha256,
            **(record.others or {}),
        }.items():
            weights = paths.usable_model(name) / "model.safetensors"
            fits = fits and (not weights.is_file() or sha256_of(weights) == sha256)
        for name, sha256 in (record.other_datasets or {}).items():
            shards = paths.shards(name)
            fits = fits and (not shards.is_dir() or read_manifest(shards).sha256 == sha256)
        if not fits:
            log.warning("warning: %s: an old use, or of other data or weights; left out", folder)
            continue
        found.append((record, folder))
    order = list(USES)
    return sorted(found, key=lambda one: (order.index(one[0].use), one[0].experiment))


def summary(records: list[UseRecord]) -> dict[str, dict[str, float]]:
    """Return the numbers of each use by name, for `dvc metrics`."""
    return {
        record.use: {number.name: number.value for number in record.numbers} for record in records
    }
