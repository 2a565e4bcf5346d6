"""Mixing trained experiments: their weights in the mixture, fitted to the validation rows."""

import filecmp
import logging
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import arcore
from arcore import symmetries
from arcore.events import Levels
from arcore.mixtures import fit_weights
from arcore.pools import fit_pool
from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.origin import device_name
from pipeline.artifacts.writer import Work
from pipeline.cluster import shared_storage
from pipeline.cluster.devices import local_device
from pipeline.core import paths
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError, explained, unknown_name
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.shard_reader import ShardReader, Split
from pipeline.evaluation import scoring
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments import compose
from pipeline.experiments.schema import EvaluationConfig, ExperimentConfig
from pipeline.stage import Made, Projection
from pipeline.tracking import mlflow_store
from pipeline.training import saved_models
from pipeline.training.resolved import ResolvedConfig, resolve
from pipeline.training.saved_models import TrainedModel
from pipeline.training.training_records import TrainingRecord, read_curves

log = logging.getLogger(__name__)
SCORES, WEIGHTS = "valid.csv", "model.safetensors"
Combined = arcore.Mixture | arcore.Pool


def join(config: ExperimentConfig, experiment: str) -> Path:
    """Copy a trained member of an entry of `mixtures`, and score the validation rows with it.

    It joins as it is evaluated: under so many of its masks or orderings. Writes
    mixtures/<mixture>/<experiment>/: a model's folder, with valid.csv, the nats of each row under
    each symmetry, to which weights are fitted. A pool's weights are fitted to conditionals, so that
    it has no scores.

    Raises:
        UserError: for what is no member, is not trained, or not as its experiment says, or scores
            clips of which frames are given: the evidence of those would weight the members, which
            learned nothing of them.
    """
    if experiment not in config.mixture:
        raise unknown_name(f"member of {config.name}", experiment, config.mixture)
    manifest = read_manifest(paths.shards(config.dataset["name"]))
    if manifest.context_frames:
        raise UserError(f"{config.name}: expected whole events, got clips given their first frames")
    trained = saved_models.load(experiment)
    count = _check(experiment, trained, resolve(config, manifest), manifest)
    with explained(f"{experiment}:", ValueError):
        under = [arcore.Mixture([trained.model], None, [count], [s]) for s in _symmetries(config)]
    output = artifact.member(config.name, experiment, manifest.dataset)

    def make(work: Work) -> Made[Path]:
        shutil.copytree(paths.model(experiment), work.folder, dirs_exist_ok=True)
        saved_models.check_weights(work.folder / WEIGHTS, trained.weights_sha256, experiment)
        if not config.pooled:
            device = local_device(config.cluster)
            valid = ShardReader(paths.shards(manifest.dataset), "valid")
            rows = ChosenRows.of(valid, config.evaluation.batch_size)
            each = [scoring.scores(one.to(device).eval(), rows) for one in under]
            nats = torch.stack(each, 1)
            if not bool(nats.isfinite().all()):
                raise UserError(f"{experiment}: expected finite nats for each row; train it again")
            lines = "".join(",".join(map(repr, row)) + "\n" for row in nats.tolist())
            (work.folder / SCORES).write_text(_header(count, config) + lines, encoding="utf-8")
        return Made(output.folder, [f"{config.name}: {experiment} joins"])

    return stage.run(output, make)


def mix(config: ExperimentConfig) -> Path:
    """Mix the members of an entry of `mixtures`; write models/<mixture>/, a model like any other.

    Expectation maximisation fits the weights to the members' scores of the validation rows
    (`arcore.mixtures.fit_weights`). Newton's method fits a pool's to the members' conditionals
    (`arcore.pools.fit_pool`); no training or test row is seen. history.csv has the nats of the
    rows after each iteration, config.yaml the weights by the names of the members. A member that
    has not joined, or has been trained again since, joins first.
    """
    output = artifact.mixture(config.name, config.dataset["name"])
    storage = shared_storage.shared_storage(config.cluster)
    stage.run(output, partial(_mix, config), storage=storage)
    return output.folder


def _mix(config: ExperimentConfig, work: Work) -> Made[None]:
    manifest = read_manifest(paths.shards(config.dataset["name"]))
    resolved = resolve(config, manifest)
    folders = [_joined(config, name, resolved) for name in config.mixture]
    trained = [saved_models.load_folder(folder) for folder in folders]
    pairs = zip(config.mixture, trained, strict=True)
    counts = [_check(name, one, resolved, manifest) for name, one in pairs]
    with explained(f"{config.name}:", ValueError):
        models = [one.model for one in trained]
        combined, weights, history = _fit(config, folders, models, counts)
    names = [
        name if symmetry == "identity" else f"{name} {symmetry}"
        for name in config.mixture
        for symmetry in _symmetries(config)
    ]
    shares = dict(zip(names, weights.tolist(), strict=True))
    experiment = mlflow_store.experiment_of(manifest.dataset)
    work.run_id = mlflow_store.start_run(
        experiment,
        config.name,
        shared_storage.run_key(config.cluster, resolved.config_hash),
        params={f"weight {name}": weight for name, weight in shares.items()},
        tags={"commit": work.commit, "dataset_sha256": manifest.sha256},
        fresh=True,  # weights are fitted anew, and MLflow keeps those that a run has
    )
    members = {n: one.weights_sha256 for n, one in zip(config.mixture, trained, strict=True)}
    seconds = 0.0
    for name, one in zip(config.mixture, trained, strict=True):
        if one.record is None:
            log.warning("warning: %s: its training's seconds are not recorded, nor counted", name)
        else:
            seconds += one.record.train_seconds
    arcore.save(combined, work.folder)
    record = TrainingRecord(
        experiment=config.name,
        run_id=work.run_id,
        mlflow_experiment=experiment,
        num_parameters=sum(p.numel() for p in combined.parameters()),
        train_seconds=round(seconds + work.seconds, 1),
        device=device_name(combined.device),
        num_workers=0,
        epochs=len(history) - 1,
        best_epoch=len(history) - 1,
        commit=work.commit,
        weights_sha256=sha256_of(work.folder / WEIGHTS),
    )
    content = {**resolved.to_dict(), "weights": shares, "members_sha256": members}
    rows = (
        {"epoch": number, "step": number, "valid_nats": nats}
        for number, nats in enumerate(history[1:], 1)  # an iteration counts as an epoch
    )
    record.write(work.folder, content, rows)
    values = {"best_valid_nats": history[-1]}
    named = ", ".join(f"{name} {weight:.3f}" for name, weight in shares.items())
    return Made(
        None,
        said=[f"{config.name}: valid {history[-1]:.3f} nats ({named})"],
        projection=Projection(curves=read_curves(work.folder), values=values),
    )


def _fit(
    config: ExperimentConfig,
    folders: Sequence[Path],
    models: Sequence[arcore.AutoregressiveModel],
    counts: Sequence[int],
) -> tuple[Combined, Tensor, Sequence[float]]:
    """Return the mixture or pool, its fitted weights, and the nats after each iteration."""
    if config.pooled:
        valid = ShardReader(paths.shards(config.dataset["name"]), "valid")
        device = local_device(config.cluster)
        weights, history = fit_shares(models, valid, config.evaluation, device)
        return arcore.Pool(models, weights), weights, history
    scores = torch.tensor([_read_scores(folder) for folder in folders], dtype=torch.float64)
    weights, history = fit_weights(-scores.transpose(0, 1).flatten(1))
    return arcore.Mixture(models, weights, counts, _symmetries(config)), weights, history


def _joined(config: ExperimentConfig, experiment: str, resolved: ResolvedConfig) -> Path:
    """Return the folder of a member, which joins if it has not as it is now wanted.

    Without a trained model DVC has restored the folder.
    """
    folder = artifact.member(config.name, experiment, config.dataset["name"]).folder
    source = paths.model(experiment)
    scores, header = folder / SCORES, _header(_count(experiment, resolved), config).encode()
    scored = config.pooled or scores.is_file() and scores.read_bytes().startswith(header)
    if scored and (folder / WEIGHTS).is_file():
        names = [WEIGHTS, "config.yaml"] if (source / WEIGHTS).is_file() else []
        if not any(filecmp.cmpfiles(folder, source, names, shallow=False)[1:]):
            return folder
    return join(config, experiment)


def _symmetries(config: ExperimentConfig) -> list[str]:
    return list(config.model.get("symmetries", symmetries.IDENTITY))


def _header(count: int, config: ExperimentConfig) -> str:
    """Return the first line of a member's scores: a column for each symmetry."""
    column = "nats" if count == 1 else f"nats_of_{count}"
    named = (column if one == "identity" else f"{column} {one}" for one in _symmetries(config))
    return ",".join(named) + "\n"


def _count(experiment: str, resolved: ResolvedConfig) -> int:
    """Return under how many masks or orderings a member joins."""
    members = resolved.model["members"]
    assert isinstance(members, list)
    return int(members[resolved.experiment.mixture.index(experiment)]["num_members"])


def _check(
    experiment: str, trained: TrainedModel, resolved: ResolvedConfig, manifest: Manifest
) -> int:
    """Refuse a member that is none as its experiment describes; return under how many it joins."""
    saved_models.check_data(trained, manifest, experiment)
    saved_models.check_entry(compose.load(experiment), trained, manifest)
    return _count(experiment, resolved)


def _read_scores(folder: Path) -> list[list[float]]:
    path = folder / SCORES
    with explained(f"{path}: expected a number in each line, got", OSError, ValueError):
        rows = path.read_text(encoding="utf-8").splitlines()[1:]
        return [[float(nats) for nats in row.split(",")] for row in rows]


NUMBERS = 1 << 27  # logits that are kept, half a gigabyte in float32
AT_ONCE = 1 << 24  # of these, what a batch may have


def fit_shares(
    models: Sequence[arcore.AutoregressiveModel],
    split: Split,
    plan: EvaluationConfig,
    device: torch.device,
) -> tuple[Tensor, list[float]]:
    """Fit the weights of a pool of models to rows that they were not trained on.

    Returns (models,) float64 weights, and the mean nats of those rows before each of Newton's steps
    and at the end. Of rows with many levels a random subset is taken, as many as `NUMBERS` logits
    allow: each has as many conditionals as dimensions, of which to learn a weight a model.
    """
    pooled = arcore.Pool(models).eval().to(device)
    event = pooled.event
    assert isinstance(event, Levels)
    size = event.size * event.num_levels * len(models)
    count = min(len(split), max(1, NUMBERS // size))
    if count < len(split):
        log.info("weights are fitted to %d of %d validation rows", count, len(split))
    at_once = min(plan.batch_size, max(1, AT_ONCE // size))
    batches = []
    for _, batch in scoring.read_batches(pooled, ChosenRows.of(split, at_once, count, plan.seed)):
        with torch.no_grad():
            logits = pooled.member_logits(batch.x, batch.condition)
        batches.append((logits.float().cpu(), batch.x.cpu()))
    weights, history = fit_pool(batches)
    return weights, [nats * event.size for nats in history]
