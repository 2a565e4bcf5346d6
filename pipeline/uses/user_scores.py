"""Scores of a test set of the user's: a prepared dataset, or a file of events."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore.events import Event, Table, is_levels, is_real, is_table
from arcore.inference import data_frames
from arcore.inference.row_shapes import in_shape
from pipeline.cluster.devices import local_device
from pipeline.core import paths
from pipeline.core.errors import UserError, explained, require
from pipeline.data.manifest import AGAIN, MANIFEST, Manifest, read_manifest
from pipeline.data.scalings import read_scalings
from pipeline.data.shard_layout import ROW_GROUP
from pipeline.data.shard_reader import ShardReader, Split
from pipeline.datasets import catalog
from pipeline.datasets.base import SplitData, level_type
from pipeline.datasets.options import parse_options
from pipeline.datasets.read_transforms import ReadTransform, num_bins
from pipeline.datasets.scaling import Scaling
from pipeline.datasets.tables.csv_table import read_names, read_table
from pipeline.datasets.user import arrays, csv_file
from pipeline.evaluation import scoring
from pipeline.evaluation.result_records import Score
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments.schema import EvaluationConfig
from pipeline.training import saved_models
from pipeline.training.resolved import check_condition
from pipeline.training.saved_models import TrainedModel
from pipeline.uses import use_context

log = logging.getLogger(__name__)

SUFFIXES = (".npy", ".npz", ".csv")


@dataclass(frozen=True, kw_only=True)
class ScoredSet:
    """What the rows of a test set score; `exact` and `bits_exact` are False for upper bounds."""

    score: Score
    num_rows: int
    exact: bool
    bits_exact: bool


def score(model: str, data: str) -> ScoredSet:
    """Score all rows of a test set under the evaluation of a model's own training.

    Arguments:
        model: its folder, or the name of an experiment in models/ or results/.
        data: a prepared dataset, whose test split is scored, or a .npy, .npz or .csv file.
    """
    trained = find_model(model)
    plan: Mapping[str, object] = trained.content.get("evaluation") or {}
    members = int(str(plan.get("num_members") or trained.model.num_members))
    with explained(f"{model}: evaluation.num_members {members}:", ValueError):
        scored = trained.model if members == 1 else trained.model.ensemble(members)
    batch_size = int(str(plan.get("batch_size") or EvaluationConfig().batch_size))
    scored = scored.to(local_device()).eval()
    if Path(data).suffix in SUFFIXES or Path(data).is_file():
        split: Split = read_file(Path(data), trained)
        context = _context_frames(trained)
    else:
        split = _shards(data, trained)
        context = split.manifest.context_frames
    require(len(split) > 1, data, "two rows or more, for a standard error", len(split))
    learned = trained_rows(split, trained)
    if learned:
        counted = f"{learned:,} of {len(split):,} rows are training rows of"
        log.warning("warning: %s: %s %s", data, counted, trained.content["dataset"]["name"])
    rows = ChosenRows.of(split, batch_size, context_frames=context)
    if rows.has_holes(scored.event) and not scored.gives_marginals:
        raise UserError(f"{data}: expected whole rows, for a model of one order, got missing cells")
    nats = scoring.scores(scored, rows)
    return ScoredSet(
        score=rows.score(nats, scored.event),
        num_rows=len(nats),
        exact=scored.exact,
        bits_exact=scored.exact and scored.event.bin_width is None,
    )


def find_model(given: str) -> TrainedModel:
    """Load the model of a folder, or else of an experiment."""
    folder = Path(given)
    if (folder / "config.yaml").is_file():
        return saved_models.load_folder(folder)
    if not folder.is_dir():
        return use_context.trained_model(given)
    with explained("", ValueError):
        return TrainedModel(arcore.load(folder), given, "", "", {}, None)


def trained_rows(split: Split, trained: TrainedModel) -> int:
    """Count the rows of a split that are rows that a model was trained on, byte by byte.

    None are counted without the training's shards, in its own test split, and where only one of
    the two sets is drawn when it is read (`bernoulli`, `moving`).
    """
    described = trained.content.get("dataset") or {}
    shards = paths.shards(str(described.get("name")))
    if not (shards / MANIFEST).is_file():
        return 0
    reader = ShardReader(shards, "train")
    own = isinstance(split, ShardReader) and split.manifest.sha256 == reader.manifest.sha256
    is_training = reader.manifest.sha256 == trained.dataset_sha256
    if own or not is_training or reader.read_transform != split.read_transform:
        return 0
    total = (trained.content.get("trainer") or {}).get("train_rows") or len(reader)
    learned = {row for part in _parts(total) for row in _hashes(reader[part].x)}
    return sum(row in learned for part in _parts(len(split)) for row in _hashes(split[part].x))


def _parts(total: int) -> Iterator[np.ndarray]:
    return (np.arange(first, min(first + ROW_GROUP, total)) for first in range(0, total, ROW_GROUP))


def _hashes(x: np.ndarray) -> Iterator[bytes]:
    return (hashlib.blake2b(row, digest_size=16).digest() for row in np.ascontiguousarray(x))


def _shards(name: str, trained: TrainedModel) -> ShardReader:
    """Open the test split of a prepared dataset, whose rows must be of the model's kind."""
    require(not Path(name).is_dir(), name, "a dataset or a .npy, .npz or .csv file", "a folder")
    catalog.load_settings(name)  # an unknown one is named, with what is near it
    shards, model = paths.shards(name), trained.model
    manifest = read_manifest(shards)
    require(manifest.event == model.event, name, f"events {model.event}", manifest.event)
    check_condition(model, manifest)
    fits = not manifest.context_frames or model.scores_parts
    require(fits, name, "clips without given frames", manifest.context_frames)
    if manifest.sha256 != trained.dataset_sha256 and trained.dataset_sha256:
        plain = [
            {role: one.to_dict() for role, one in scalings.items()}
            for scalings in (_scalings(trained), read_scalings(shards))
        ]
        fits = plain[0] == plain[1]
        require(fits, name, "values standardised as for the training", "others; score its file")
    return ShardReader(shards, "test")


def _trained_on(trained: TrainedModel) -> Manifest | None:
    """Return the manifest of the data of a training; None for a model without a training."""
    if not trained.dataset_sha256:
        return None
    return use_context.trained_on(trained, str(trained.content.get("name")))


def _scalings(trained: TrainedModel) -> Mapping[str, Scaling]:
    """Return how the values of a training were standardised."""
    kind = trained.model.condition_kind
    has_reals = is_real(trained.model.event) or (kind is not None and not kind.is_integer)
    manifest = _trained_on(trained) if has_reals else None
    return read_scalings(paths.shards(manifest.dataset)) if manifest else {}


def _context_frames(trained: TrainedModel) -> int:
    manifest = _trained_on(trained) if trained.model.scores_parts else None
    return manifest.context_frames if manifest else 0


def read_file(path: Path, trained: TrainedModel) -> SplitData:
    """Read the events of a file, and what they come with, as the model takes them.

    Values of reals and vectors are in the units of the data of the training.
    """
    event, where = trained.model.event, str(path)
    require(
        path.suffix in SUFFIXES,
        where,
        f"a {', '.join(SUFFIXES)} file; stages.add_dataset reads others",
        path.suffix,
    )
    require(path.is_file(), where, "an existing file", "none")
    expected = "a prepared dataset, for a model of events of any length"
    require(not event.is_open, where, expected, "a file")
    found = _of_table(path, trained) if path.suffix == ".csv" else _of_arrays(path)
    scalings = _scalings(trained)
    with explained("", ValueError):
        x, transform = _events(in_shape(found.x, event), event, scalings.get("x"), where)
        labels = _condition(found, trained.model, scalings.get("conditions"), where)
    return SplitData(x, labels, transform)


def _of_arrays(path: Path) -> SplitData:
    """Read a .npy file, or from an .npz archive `x` and `labels` or `conditions`."""
    usual = arrays.usual_names(path) if path.suffix == ".npz" else {"labels": "", "conditions": ""}
    found = arrays.open_arrays(path.name, str(path.absolute()), "x", **usual)
    return SplitData(found["x"], found.get("labels", found.get("conditions")))


def _of_table(path: Path, trained: TrainedModel) -> SplitData:
    """Read a table by the names of its columns, or for a model without names by their places."""
    described, file = trained.content.get("dataset") or {}, str(path.absolute())
    if described.get("kind") == "csv":
        options = {**described, "path": file, "standardize": False}
        return _by_name(path, options, _named_columns(trained))
    options = {"name": path.stem, "path": file, **csv_file.guess(path.stem, file, {"levels": {}})}
    if is_table(event := trained.model.event):
        text = read_table(path, str(options["delimiter"]), bool(options["header"]))
        with explained("", ValueError):
            return SplitData(data_frames.to_tensor(text, event, str(path)).numpy())
    return _table(options | {"standardize": False}).unscaled(path)


def _by_name(path: Path, options: Mapping[str, object], table: Table) -> SplitData:
    """Read the columns of a training's table from another file, in any order there."""
    known = parse_options(csv_file.CsvOptions, str(options["name"]), options)
    names = read_names(path, known.delimiter, known.header)
    kept = [name for name in names if name not in (*known.drop, *known.told)]
    with explained("", ValueError):
        places = data_frames.places_of(table, kept, str(path))
    drop = [name for name in known.drop if name in names]
    found = _table({**options, "drop": drop}).unscaled(path)
    return SplitData(found.x[:, places], found.labels)


def _table(options: Mapping[str, object]) -> csv_file.CsvFile:
    table = csv_file.build(options)
    assert isinstance(table, csv_file.CsvFile)
    return table


def _named_columns(trained: TrainedModel) -> Table:
    """Return the columns of the table that a model was trained on."""
    if is_table(event := trained.model.event):
        return event
    manifest = _trained_on(trained)
    table = manifest.table if manifest else None
    if manifest is None or table is None:
        shards = paths.shards(str(trained.content["dataset"]["name"]))
        raise UserError(f"{shards}: expected shards with the columns' names, got older; {AGAIN}")
    return table


def _events(
    x: np.ndarray, event: Event, scaling: Scaling | None, where: str
) -> tuple[np.ndarray, ReadTransform | None]:
    """Check values, and bring them to the types of shards."""
    if is_levels(event):
        kind = level_type(event.num_levels)
        x = x.astype(np.uint8) if x.dtype == bool else x
        return event.check(torch.from_numpy(np.array(x)), where).numpy().astype(kind), None
    if event.bin_width is not None and x.dtype.kind in "iub":  # the noise is to be drawn
        levels = arcore.events.Levels(num_bins(event), event.shape)
        return _events(x, levels, None, where)[0], "dequantize"
    if is_table(event):
        cells = x.astype("<f8")  # NaN where one is missing
        event.check(torch.from_numpy(np.where(np.isnan(cells), 0, cells)), where)
        return cells, None
    scaled = x.astype(np.float64) if scaling is None else scaling.of(x)
    with np.errstate(over="ignore"):
        return event.check(torch.from_numpy(scaled.astype("<f4")), where).numpy(), None


def _condition(
    found: SplitData, model: arcore.AutoregressiveModel, scaling: Scaling | None, where: str
) -> np.ndarray | None:
    """Check what rows come with; None for a model that takes nothing."""
    kind = model.condition_kind
    if kind is None:
        return None
    rows = len(found)
    if found.labels is None:
        name = "labels" if kind.is_integer else "conditions"
        raise UserError(f"{where}: expected {name}, {kind.expected(rows)}, got none")
    scaled = found.labels if scaling is None else scaling.of(found.labels)
    numbers: Tensor = torch.from_numpy(scaled.astype(np.int64 if kind.is_integer else "<f4"))
    with explained(f"{where}:", ValueError):
        kind.check_shape(numbers, rows)
        kind.check_values(numbers)
    return numbers.numpy()
