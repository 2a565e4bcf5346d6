"""Evaluating a trained model under its dataset's protocol."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore.units import nats_to_bits_per_dim
from pipeline.cluster import shared_storage
from pipeline.core import paths
from pipeline.core.atomic import replacing
from pipeline.core.errors import UserError
from pipeline.data import shard_reader, sound_batches
from pipeline.datasets import catalog
from pipeline.datasets.base import SplitData
from pipeline.evaluation import audio_figures, image_figures, sampling, scoring, video_figures
from pipeline.evaluation.scoring import mean_and_error
from pipeline.experiments.schema import EvaluationConfig, ExperimentConfig
from pipeline.tracking import run_logger
from pipeline.training import saved_models

log = logging.getLogger(__name__)


def evaluate(config: ExperimentConfig) -> Path:
    """Evaluate models/<experiment>/ on the test split; write evaluation/<dataset>/<experiment>/.

    Test rows are scored once, all of them or the random subset that the config asks for; the
    validation split is scored in the same way, for choosing between models. What the members of an
    ensemble score, on average, comes with it. Where `exact` is false, `nats` is an upper bound on
    the negative log-likelihood, and an importance-weighted estimate, made of fewer rows, comes with
    it. Metrics and pictures go to the training's MLflow run too.

    Raises:
        UserError: for a missing or damaged model or shards, or one trained on other data.
    """
    model, trained, record = saved_models.load(config.name)
    dataset, plan = config.dataset["name"], config.evaluation
    folder = paths.shards(dataset)
    manifest = shard_reader.read_manifest(folder)
    _check(config.name, model, trained, manifest)
    plan = dataclasses.replace(plan, num_members=plan.num_members or model.num_members)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _scored(model, plan, config.name).to(device).eval()
    test, valid = (shard_reader.read_split(folder, split) for split in ("test", "valid"))
    chosen = scoring.choose(test, plan)
    source = None
    if manifest.sound is not None:
        source = catalog.get_dataset(config.dataset).source_nats(test)
    measured, nats = _measure(model, test, chosen, manifest, plan, source)
    chosen_valid = scoring.choose(valid, plan)
    context = manifest.context_frames
    valid_nats = scoring.scores(model, valid, plan.batch_size, chosen_valid, context)
    shown = np.random.default_rng(plan.seed).permutation(len(test))[: plan.num_samples]
    drawn, sample_seconds = sampling.draw(model, plan, test, shown, context)
    metrics = {
        "experiment": config.name,
        "dataset": dataset,
        "model": trained["model"]["name"],
        "num_members": plan.num_members,
        "unit": manifest.unit,
        "split": "test",
        **measured,
        "num_rows": len(nats),
        "num_split_rows": len(test),
        "exact": model.exact,
        "valid_nats": mean_and_error(valid_nats)[0],
        "num_parameters": record["num_parameters"],
        "train_seconds": record["train_seconds"],
        "sample_seconds": round(sample_seconds, 3),
        "device": record["device"],
        "published": plan.published,
        "published_member": plan.published_member,
        "published_importance": plan.published_importance,
    }
    out = paths.evaluation(dataset, config.name)
    with replacing(out) as temporary:
        (temporary / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        with open(temporary / "scores.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["row", "nats"])
            pairs = zip(chosen.tolist(), nats.tolist(), strict=True)
            writer.writerows((row, f"{value:.6f}") for row, value in pairs)
        _show(model, plan, test, shown, drawn, manifest, temporary)
        curve = image_figures.curve_figure(paths.model(config.name) / "history.csv")
        curve.savefig(temporary / "learning_curve.png")
    shared_storage.publish(config.cluster, out, "metrics.json")
    _track(record["run_id"], metrics, out)
    log.info(
        "%s: test %.3f +- %.3f nats, %.4f bits/dim (%d rows)",
        config.name, metrics["nats"], metrics["nats_stderr"], metrics["bits_per_dim"], len(nats),
    )  # fmt: skip
    return out


def _check(
    name: str,
    model: arcore.AutoregressiveModel,
    trained: Mapping[str, Any],
    manifest: shard_reader.Manifest,
) -> None:
    if trained["dataset_sha256"] != manifest.sha256:
        raise UserError(
            f"{name}: expected shards that it was trained on "
            f"({trained['dataset_sha256'][:12]}), got {manifest.sha256[:12]}; train it again"
        )
    if manifest.context_frames and not model.scores_parts:
        raise UserError(
            f"{name}: expected a model over clips for {manifest.dataset}, of which "
            f"{manifest.context_frames} frames are given, got {trained['model']['name']}"
        )


def _measure(
    model: arcore.AutoregressiveModel,
    test: SplitData,
    chosen: np.ndarray,
    manifest: shard_reader.Manifest,
    plan: EvaluationConfig,
    source: np.ndarray | None,
) -> tuple[dict[str, Any], Tensor]:
    """Score test rows; return what is said of them on average, and the nats of each.

    `source` has the nats of each row of the split under what it was drawn from, if that is known.
    """
    context = manifest.context_frames
    began = time.perf_counter()
    by_member = scoring.member_scores(model, test, plan.batch_size, chosen, context)
    nats = scoring.mixture(by_member)
    seconds = time.perf_counter() - began
    mean, error = mean_and_error(nats)
    event = arcore.events.after_frames(manifest.event, context)
    lengths = (
        None if manifest.sound is None else torch.from_numpy(sound_batches.lengths(test)[chosen])
    )
    size = None if lengths is None else float(lengths.double().mean())

    def error_in_bits(nats: Tensor) -> float:
        if lengths is not None and size is not None:
            nats = nats - nats.mean() / size * lengths  # of a ratio of sums
        spread = mean_and_error(nats)[1]
        return nats_to_bits_per_dim(spread, event, difference=True, size=size)

    measured: dict[str, Any] = {
        "nats": mean,
        "nats_stderr": error,
        "bits_per_dim": nats_to_bits_per_dim(mean, event, size=size),
        "bits_per_dim_stderr": error_in_bits(nats),
        "mean_size": size,
        "evaluate_seconds": round(seconds, 2),
    }
    if context:
        measured["context_frames"] = context
    bound = None if source is None else torch.from_numpy(source[chosen])
    if isinstance(manifest.event, arcore.events.Gray):
        bound = scoring.entropy_scores(test, manifest.event, plan.batch_size, chosen, context)
    if bound is not None:
        measured["entropy_nats"] = mean_and_error(bound)[0]
        measured["excess_nats"], measured["excess_nats_stderr"] = mean_and_error(nats - bound)
        measured["excess_bits_per_dim_stderr"] = error_in_bits(nats - bound)
    facts = {"receptive_field": model.receptive_field, "num_evaluations": model.num_evaluations}
    measured |= {name: value for name, value in facts.items() if value is not None}
    if by_member.shape[1] > 1:
        member, member_error = mean_and_error(by_member.mean(1))
        measured |= {"member_nats": member, "member_nats_stderr": member_error}
    if model.latent_levels and plan.importance_samples:
        estimates = scoring.importance_scores(model, test, plan, chosen)
        estimate, estimate_error = mean_and_error(estimates)
        measured |= {
            "nats_importance_weighted": estimate,
            "nats_importance_weighted_stderr": estimate_error,
            "importance_samples": plan.importance_samples,
            "importance_rows": len(estimates),
        }
    return measured, nats


def _show(
    model: arcore.AutoregressiveModel,
    plan: EvaluationConfig,
    test: SplitData,
    shown: np.ndarray,
    drawn: np.ndarray,
    manifest: shard_reader.Manifest,
    folder: Path,
) -> None:
    """Write samples beside real rows: a picture, and what can be played into `media`."""
    real = scoring.read_rows(test, shown, model.event)
    media, picture = folder / "media", folder / "samples.png"
    media.mkdir()
    if manifest.sound is not None:
        labels = cast(np.ndarray, test.labels)[shown]
        pairs = audio_figures.Pairs(drawn, real, labels, model.event, manifest.sound)
        pairs.write(media)
        pairs.spectrograms().savefig(picture)
    elif len(model.event.shape) == 4:
        shown, real, drawn = (rows[: video_figures.MAX_CLIPS] for rows in (shown, real, drawn))
        context, given = manifest.context_frames, scoring.condition_of(model, test, shown)
        versions = [real, video_figures.expected(model, real, given, context), drawn]
        video_figures.save_clips(picture, versions, model.event, context)
    else:
        events = {"samples": drawn, "real": real, **sampling.draw_varied(model, plan)}
        image_figures.sample_figure(events, model.event).savefig(picture)


def _scored(
    model: arcore.AutoregressiveModel, plan: EvaluationConfig, name: str
) -> arcore.AutoregressiveModel:
    if plan.num_members in (None, 1):
        return model
    try:
        return model.ensemble(plan.num_members)
    except ValueError as error:
        raise UserError(f"{name}: evaluation.num_members {plan.num_members}: {error}") from None


def _track(run_id: str | None, metrics: dict[str, Any], out: Path) -> None:
    logger = run_logger.RunLogger(run_id)
    measured = ("nats", "nats_stderr", "bits_per_dim", "bits_per_dim_stderr", "sample_seconds")
    logger.metrics({f"test_{name}": metrics[name] for name in measured})
    logger.metrics({"best_valid_nats": metrics["valid_nats"]})
    if "nats_importance_weighted" in metrics:
        logger.metrics({"test_nats_importance_weighted": metrics["nats_importance_weighted"]})
    for picture in ("samples.png", "learning_curve.png"):
        logger.artifact(out / picture)
    logger.artifact(out / "metrics.json")
