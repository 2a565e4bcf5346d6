"""Protocols of several folds: an experiment is trained and tested on each, and the mean reported.

Each fold has a home of its own under `.arcore/folds/`, where preprocessing, training and evaluation
run as they do elsewhere; what stays is `evaluation/<dataset>/<experiment>-folds/`, with each fold's
model in a folder of its own.
"""

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
import yaml

from arcore import events
from arcore.events import Event
from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.writer import Work, unpublished
from pipeline.cluster import shared_storage
from pipeline.core import paths, stage_code
from pipeline.core import storage as places
from pipeline.core.errors import UserError
from pipeline.core.records import value_of
from pipeline.core.yaml_settings import read_yaml
from pipeline.data import fetching, preprocessing
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from pipeline.evaluation import experiment_evaluation, identity
from pipeline.evaluation.result_records import Counterpart, Result, Score
from pipeline.evaluation.scoring import mean_and_error
from pipeline.experiments import compose, naming, params_file
from pipeline.experiments.schema import ExperimentConfig
from pipeline.stage import Made
from pipeline.tracking import mlflow_store
from pipeline.training import driver

log = logging.getLogger(__name__)
COLUMNS = ("fold", "num_rows", "nats", "nats_stderr", "valid_nats")
MODEL_FILES = ("config.json", "config.yaml", "model.safetensors", "training.json")


def run(name: str, overrides: Sequence[str] = ()) -> Path:
    """Train and evaluate an entry of `folds` on each fold; write evaluation/<dataset>/<name>-folds.

    A run that was killed goes on: folds that are finished are kept, an unfinished training
    continues. The standard error is of the mean over folds, std / sqrt(folds).
    """
    entry, config = params_file.read_entry("folds", name), compose.load(name, overrides)
    fixed = {"dataset": config.dataset["name"], "model": config.model["name"]}
    for key, chosen in fixed.items():
        if entry.get(key) != chosen:
            raise UserError(f"folds.{name}.{key}: expected {chosen!r}, got {entry.get(key)!r}")
    described = identity.config_sha256(config), identity.entry_sha256(name)  # as it began
    config = dataclasses.replace(
        config, evaluation=dataclasses.replace(config.evaluation, published=entry.get("published"))
    )
    dataset = catalog.get_dataset(config.dataset)
    if dataset.num_folds < 2:
        raise UserError(f"folds.{name}: expected a dataset of several folds, got {dataset.name}")
    raw = fetching.verify_raw(dataset).resolve()
    title = naming.over_folds(config.result_name)
    output = artifact.folds(name, dataset.name, config.result_name, title)
    home = paths.work() / "folds" / config.result_name

    def make(work: Work) -> Made[Path]:
        outcomes = [_fold(config, fold, raw, home / str(fold)) for fold in range(dataset.num_folds)]
        result = dataclasses.replace(
            summary(title, outcomes, config.evaluation.published),
            config_sha256=described[0],
            entry_sha256=described[1],
        )
        event = _write(config, result, outcomes, home, work.folder)
        nats, stderr = result.score.nats, result.score.nats_stderr
        over = f"mean over {len(outcomes)} folds"
        return Made(
            output.folder,
            said=[f"{config.result_name}: test {nats:.3f} +- {stderr:.3f} nats, {over}"],
            metrics=result.summary(event),
            finish=lambda: places.remove(home),  # a half removed one would count as finished
        )

    return stage.run(output, make, storage=shared_storage.shared_storage(config.cluster))


def _write(
    config: ExperimentConfig,
    result: Result,
    outcomes: Sequence[Result],
    home: Path,
    folder: Path,
) -> Event:
    """Write the result over folds, with the model of each; return the event that was scored."""
    result.write(folder)
    for fold in range(len(outcomes)):
        (folder / naming.of_fold(fold)).mkdir()
        for file_name in MODEL_FILES:
            model_file = home / str(fold) / "models" / config.name / file_name
            shutil.copyfile(model_file, folder / naming.of_fold(fold) / file_name)
    where = home / "0" / "models" / config.name / "config.yaml"
    described = read_yaml(where)
    fold_of, event = (value_of(described, key, dict, str(where)) for key in ("dataset", "event"))
    del described["dataset_sha256"], fold_of["fold"]
    text = yaml.safe_dump(described, sort_keys=False)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    rows = [{"fold": fold} | one.to_dict() for fold, one in enumerate(outcomes)]
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table.to_csv(folder / "folds.csv", index=False, lineterminator="\n")
    return events.from_dict(event)


def on_fold(config: ExperimentConfig, fold: int) -> ExperimentConfig:
    """Return the configuration of one fold, from 0."""
    return dataclasses.replace(config, dataset=config.dataset | {"fold": fold})


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the mean over folds, with its standard error, std / sqrt(folds)."""
    nats, nats_stderr = _over_folds([one.nats for one in scores])
    bits, bits_stderr = _over_folds([one.bits_per_dim for one in scores])
    return Score(
        nats=nats, nats_stderr=nats_stderr, bits_per_dim=bits, bits_per_dim_stderr=bits_stderr
    )


def summary(title: str, outcomes: Sequence[Result], published: Counterpart | None) -> Result:
    """Return the result over folds: means of values, sums of rows and seconds.

    What goes with a single fold's score (of members, an excess, an estimate) is left out.
    """
    first, valid = outcomes[0], [one.valid_nats for one in outcomes if one.valid_nats is not None]
    return Result(
        experiment=title,
        dataset=first.dataset,
        model=first.model,
        num_members=first.num_members,
        unit=first.unit,
        score=mean_score([one.score for one in outcomes]),
        evaluate_seconds=_total([one.evaluate_seconds for one in outcomes]),
        receptive_field=first.receptive_field,
        num_evaluations=first.num_evaluations,
        num_rows=sum(one.num_rows for one in outcomes),
        num_split_rows=sum(one.num_split_rows or one.num_rows for one in outcomes),
        exact=first.exact,
        valid_nats=sum(valid) / len(outcomes) if len(valid) == len(outcomes) else None,
        num_parameters=first.num_parameters,
        train_seconds=_total([one.train_seconds for one in outcomes]),
        sample_seconds=_total([one.sample_seconds for one in outcomes]),
        device=first.device,
        published=published,
        num_folds=len(outcomes),
        code_sha256=first.code_sha256,
    )


def _over_folds(values: Sequence[float]) -> tuple[float, float]:
    return mean_and_error(torch.tensor(values, dtype=torch.float64))


def _total(seconds: Sequence[float | None]) -> float | None:
    """Sum the folds' seconds; None if one's are unknown."""
    known = [one for one in seconds if one is not None]
    return round(sum(known), 3) if len(known) == len(seconds) else None


def _fold(config: ExperimentConfig, fold: int, raw: Path, home: Path) -> Result:
    """Preprocess, train and evaluate one fold in its home; return its result."""
    config = on_fold(config, fold)
    dataset = catalog.get_dataset(config.dataset)
    home.mkdir(parents=True, exist_ok=True)
    moved = {"ARCORE_HOME": str(home), "MLFLOW_TRACKING_URI": mlflow_store.tracking_uri()}
    with mock.patch.dict(os.environ, moved), unpublished():
        folder = preprocessing.write(dataset, dataset.decode(raw), paths.shards(dataset.name))
        plan = json.dumps(dataclasses.asdict(config.evaluation), sort_keys=True)
        code = stage_code.code_sha256("folds", str(config.model["name"]))
        identity = f"{config.config_hash(read_manifest(folder).sha256)} {code} {plan}"
        trained, done = home / "trained", home / "done"
        out = paths.evaluation(dataset.name, config.result_name)
        if not _is_of(done, identity):
            if not _is_of(trained, identity):
                driver.train(config)
                trained.write_text(identity, encoding="utf-8")
            experiment_evaluation.evaluate(config)
            done.write_text(identity, encoding="utf-8")
        result = Result.read(out)
    log.info("%s, fold %d: test %.3f nats", config.name, fold, result.score.nats)
    return result


def _is_of(marker: Path, identity: str) -> bool:
    return marker.is_file() and marker.read_text(encoding="utf-8") == identity
