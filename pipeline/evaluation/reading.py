"""Reading what evaluation wrote: results with the config of their model, and codecs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arcore import events
from arcore.events import Event
from pipeline.artifacts import artifact, reader
from pipeline.artifacts.artifact import MODEL, Artifact, Kind
from pipeline.core import paths
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError, explained, require
from pipeline.core.records import read_object, value_of
from pipeline.core.yaml_settings import read_yaml
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.evaluation import identity
from pipeline.evaluation.result_records import CodecMeasurements, CodecResult, Result
from pipeline.experiments import naming
from pipeline.training.training_records import TrainingRecord

log = logging.getLogger(__name__)
MADE_OF = "made_of.txt"  # beside a report or a registration: `hashes`


@dataclass(frozen=True)
class ModelConfig:
    """A model's `config.yaml`: its content, event, {name, ...hyperparameters}, base and data.

    An outcome over folds has no hash of its data.
    """

    content: Mapping[str, object]
    event: Event
    model: Mapping[str, object]
    base: str | None
    dataset_sha256: str | None

    @classmethod
    def read(cls, path: Path) -> ModelConfig:
        """Read a `config.yaml`."""
        where = str(path)
        if not path.is_file():
            raise UserError(f"{path}: missing; train the experiment first")
        content = read_yaml(path)
        model = value_of(content, "model", dict, where)
        value_of(model, "name", str, f"{where}: model")
        with explained(f"{path}:", TypeError, ValueError):
            event = events.from_dict(value_of(content, "event", dict, where))
        base, data = (
            value_of(content, key, str, where) if content.get(key) is not None else None
            for key in ("base", "dataset_sha256")
        )
        return cls(content, event, model, base, data)

    @property
    def model_name(self) -> str:
        """The model's name."""
        return str(self.model["name"])

    def asked(self, name: str) -> Any:
        """Return a hyperparameter that asks for a condition; of a mixture, any member's."""
        members = self.model.get("members") or ()
        assert isinstance(members, list | tuple)
        found = [one.get(name) for one in (self.model, *members)]
        return next((value for value in found if value is not None), None)

    def each_asks(self, name: str) -> bool:
        """Tell whether the model, or every member of a mixture, asks for a condition."""
        members = self.model.get("members") or (self.model,)
        assert isinstance(members, list | tuple)
        return all(one.get(name) is not None for one in members)

    @property
    def weights(self) -> Mapping[str, float]:
        """Of a mixture: the weight of each experiment in it."""
        found = self.content.get("weights")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """An evaluated experiment.

    Attributes:
        event: what was scored: of clips, the frames after those given.
        training: None for an outcome over folds, and where no record of these weights is there.
    """

    result: Result
    config: ModelConfig
    event: Event
    folder: Path
    training: TrainingRecord | None = None

    @property
    def name(self) -> str:
        """The experiment."""
        return self.result.experiment


def evaluations(dataset: str) -> list[Path]:
    """Return the folders `evaluation/<dataset>/*` of entries, in order; none changed by hand."""
    found = (paths.root() / "evaluation" / dataset).glob("[!.]*/metrics.json")
    return sorted(path.parent for path in found if not naming.is_variant(path.parent.name))


def read_results(dataset: str) -> list[Evaluated]:
    """Read a dataset's results, each with its model's config; by experiment.

    What was trained on other data than the shards is left out, with a warning, and so is what
    params.yaml no longer has on this dataset.
    """
    shards = paths.shards(dataset)
    present = (shards / "manifest.json").is_file()
    data = read_manifest(shards).sha256 if present else None
    results = []
    entries = identity.Entries.read()
    for folder in evaluations(dataset):
        if not entries.has(folder.name, dataset):
            log.warning(
                "warning: evaluation/%s/%s: params.yaml has no such entry on %s; left out (the "
                "folder may be removed)", dataset, folder.name, dataset,
            )  # fmt: skip
            continue
        read = read_evaluated(folder)
        where = f"{read.folder / 'metrics.json'}: dataset"
        require(read.result.dataset == dataset, where, repr(dataset), read.result.dataset)
        entries.check(read.result)
        trained = read.config.dataset_sha256 or data  # folds have data of their own
        if data in (None, trained):
            results.append(read)
        else:
            log.warning(
                "warning: evaluation/%s/%s: of other data (%s) than the shards (%s); left out",
                dataset, read.name, str(trained)[:12], str(data)[:12],
            )  # fmt: skip
    if not results:
        raise UserError(
            f"evaluation/{dataset}: no evaluated experiment of params.yaml; run evaluate first, or "
            f"take {dataset} out of datasets"
        )
    return results


def hashes(files: Iterable[Path]) -> str:
    """List files with their hashes: what a report or a registration, as DVC sees it, is made of."""
    root = paths.root()
    return "".join(f"{sha256_of(path)}  {path.relative_to(root).as_posix()}\n" for path in files)


def read_evaluated(folder: Path, inputs: tuple[Kind, ...] = (MODEL,)) -> Evaluated:
    """Read one result, of inputs of some kinds as they are now.

    A folder with a config of its own needs no model, as folds have none.
    """
    path, own = folder / "metrics.json", folder / "config.yaml"
    result = Result.read(folder)
    require(result.experiment == folder.name, f"{path}: experiment", folder.name, result.experiment)
    require(result.split == "test", f"{path}: split", "'test'", result.split)
    model = paths.model(folder.name)
    config = ModelConfig.read(own if own.is_file() else model / own.name)
    reader.read(_artifact(result, folder, inputs))
    measured, trained = result.dataset_sha256, config.dataset_sha256
    fits = measured is None or trained is None or measured == trained
    require(fits, f"{path}: dataset_sha256", f"{trained} as the model was trained on", measured)
    training = None if own.is_file() else TrainingRecord.of(model)
    if training is not None:
        result = dataclasses.replace(result, device=training.device)
    with explained(f"{path}: context_frames:", ValueError):
        event = events.after_frames(config.event, result.context_frames)
    result.check(str(path), event)
    return Evaluated(result=result, config=config, event=event, folder=folder, training=training)


def _artifact(result: Result, folder: Path, inputs: tuple[Kind, ...]) -> Artifact:
    """Return what a folder of an evaluation is to be read as, made of inputs of some kinds."""
    name = naming.experiment_of(result.experiment)
    if result.num_folds > 1:
        output = artifact.folds(name, result.dataset, name, result.experiment)
    else:
        output = artifact.evaluation(result.experiment, result.dataset)
    made_of = tuple(one for one in output.inputs if one.kind in inputs)
    return dataclasses.replace(output, folder=folder, inputs=made_of)


def read_codecs(manifest: Manifest) -> list[CodecResult]:
    """Read `codecs/<dataset>/`, which must be of a manifest's shards, best first."""
    scored = events.after_frames(manifest.event, manifest.context_frames)
    output = artifact.codecs(manifest.dataset)
    path = reader.read(output) / output.kind.main
    return read_kept_codecs(path, scored, manifest.sha256, f"run `{output.command}`")


def read_kept_codecs(
    path: Path, event: Event, dataset_sha256: str | None, again: str = "restore it from Git"
) -> list[CodecResult]:
    """Read `codecs.json` or a copy of it, best first: none without such a file.

    They must be of data of a hash, None for any; `event` is what is scored of the dataset's.
    """
    if not path.is_file():
        return []
    measured = CodecMeasurements.from_dict(read_object(path), str(path))
    measured.check(str(path))
    got = measured.dataset_sha256
    if dataset_sha256 not in (None, got):
        raise UserError(
            f"{path}: dataset_sha256: expected measurements on the shards "
            f"({str(dataset_sha256)[:12]}), got {got[:12]}; {again}"
        )
    return sorted(
        measured.codecs, key=lambda one: (one.score.in_unit(measured.unit, event)[0], one.label)
    )
