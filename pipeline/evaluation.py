"""Evaluating a trained model under its dataset's protocol."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

import arcore
from arcore.events import nats_to_bits_per_dim
from pipeline import paths, shards, tracking, training
from pipeline.config import EvaluationConfig, ExperimentConfig
from pipeline.errors import UserError
from pipeline.files import replacing

log = logging.getLogger(__name__)


def scores(model: arcore.AutoregressiveModel, split: shards.Split, batch_size: int) -> Tensor:
    """Score every row of a split, -ln p(x) in nats, (rows,) float64; each row counts once.

    A split that is binarised when read has one fixed draw (epoch 0, seed 0).
    """
    device, parts = model.device, []
    for first in range(0, len(split), batch_size):
        rows = slice(first, first + batch_size)
        x = split.x[rows]
        if split.binarize is not None:
            indices = np.arange(first, first + len(x)) + split.start
            x = shards.dynamic_binarize(x, indices, 0, 0)
        condition = None
        if model.num_classes is not None:
            condition = torch.from_numpy(cast(np.ndarray, split.labels)[rows]).to(device)
        with torch.no_grad():
            parts.append(-model.log_prob(torch.from_numpy(x).to(device), condition).double().cpu())
    return torch.cat(parts)


def mean_and_error(nats: Tensor) -> tuple[float, float]:
    """Return the mean and its standard error, std / sqrt(N)."""
    error = float(nats.std(correction=1)) / math.sqrt(len(nats)) if len(nats) > 1 else math.nan
    return float(nats.mean()), error


def evaluate(config: ExperimentConfig) -> Path:
    """Evaluate models/<experiment>/ on the test split; write evaluation/<dataset>/<experiment>/.

    Test rows are scored once, all of them; the validation split is scored in the same way, for
    choosing between models. Metrics and pictures go to the training's MLflow run too.

    Raises:
        UserError: for a missing or damaged model or shards, or one trained on other data.
    """
    model, trained, record = training.load(config.name)
    dataset, plan = config.dataset["name"], config.evaluation
    folder = paths.shards(dataset)
    manifest = shards.read_manifest(folder)
    if trained["dataset_sha256"] != manifest.sha256:
        raise UserError(
            f"{config.name}: expected shards that it was trained on "
            f"({trained['dataset_sha256'][:12]}), got {manifest.sha256[:12]}; train it again"
        )
    plan = dataclasses.replace(plan, num_members=plan.num_members or model.num_members)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _scored(model, plan, config.name).to(device).eval()
    began = time.perf_counter()
    test = shards.read_split(folder, "test")
    nats = scores(model, test, plan.batch_size)
    seconds = time.perf_counter() - began
    valid_nats, _ = mean_and_error(
        scores(model, shards.read_split(folder, "valid"), plan.batch_size)
    )
    samples, sample_seconds = _sample(model, plan)
    mean, error = mean_and_error(nats)
    metrics = {
        "experiment": config.name,
        "dataset": dataset,
        "model": trained["model"]["name"],
        "num_members": plan.num_members,
        "unit": manifest.unit,
        "split": "test",
        "nats": mean,
        "nats_stderr": error,
        "bits_per_dim": nats_to_bits_per_dim(mean, manifest.event),
        "bits_per_dim_stderr": nats_to_bits_per_dim(error, manifest.event),
        "num_rows": len(nats),
        "exact": model.exact,
        "valid_nats": valid_nats,
        "num_parameters": record["num_parameters"],
        "train_seconds": record["train_seconds"],
        "evaluate_seconds": round(seconds, 2),
        "sample_seconds": round(sample_seconds, 3),
        "device": record["device"],
        "published": plan.published,
    }
    out = paths.evaluation(dataset, config.name)
    with replacing(out) as temporary:
        (temporary / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        with open(temporary / "scores.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["row", "nats"])
            writer.writerows((row, f"{value:.6f}") for row, value in enumerate(nats.tolist()))
        real = test.x[np.random.default_rng(plan.seed).permutation(len(test))[: plan.num_samples]]
        sample_figure(samples.cpu().numpy(), real, model.event).savefig(temporary / "samples.png")
        curve_figure(paths.model(config.name) / "history.csv").savefig(
            temporary / "learning_curve.png"
        )
    training.keep(config.cluster, out, "metrics.json")
    _track(record["run_id"], metrics, out)
    log.info(
        "%s: test %.3f +- %.3f nats, %.4f bits/dim (%d rows)",
        config.name, mean, error, metrics["bits_per_dim"], len(nats),
    )  # fmt: skip
    return out


def _scored(
    model: arcore.AutoregressiveModel, plan: EvaluationConfig, name: str
) -> arcore.AutoregressiveModel:
    if plan.num_members == 1:
        return model
    try:
        ensemble = cast(Any, model).ensemble(plan.num_members)
    except (AttributeError, ValueError) as error:
        raise UserError(f"{name}: evaluation.num_members {plan.num_members}: {error}") from None
    return cast(arcore.AutoregressiveModel, ensemble)


def _sample(model: arcore.AutoregressiveModel, plan: EvaluationConfig) -> tuple[Tensor, float]:
    generator = torch.Generator(model.device).manual_seed(plan.seed)
    condition = None
    if model.num_classes is not None:
        condition = torch.arange(plan.num_samples, device=model.device) % model.num_classes
    began = time.perf_counter()
    drawn = model.sample(plan.num_samples, condition, generator)
    return drawn, time.perf_counter() - began


def _track(run_id: str | None, metrics: dict[str, Any], out: Path) -> None:
    logger = tracking.RunLogger(run_id)
    measured = ("nats", "nats_stderr", "bits_per_dim", "bits_per_dim_stderr", "sample_seconds")
    logger.metrics({f"test_{name}": metrics[name] for name in measured})
    logger.metrics({"best_valid_nats": metrics["valid_nats"]})
    for picture in ("samples.png", "learning_curve.png"):
        logger.figure(out / picture, picture)
    logger.artifact(out / "metrics.json")


def sample_figure(samples: np.ndarray, real: np.ndarray, event: arcore.events.Event) -> Figure:
    """Draw samples beside real events: grids of images, or vectors as rows of a matrix."""
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    levels = getattr(event, "num_levels", 2)
    for axes, title, x in zip(
        figure.subplots(1, 2), ("samples", "real"), (samples, real), strict=True
    ):
        grid = tile(x) if len(event.shape) == 3 else x.reshape(len(x), -1)
        axes.imshow(
            grid,
            cmap="gray",
            vmin=0,
            vmax=levels - 1,
            interpolation="nearest",
            aspect="auto" if len(event.shape) != 3 else "equal",
        )
        axes.set(title=title, xticks=[], yticks=[])
    return figure


def tile(images: np.ndarray) -> np.ndarray:
    """Arrange images (N, C, H, W) as one square grid with a border of one pixel.

    Returns:
        (rows * (H + 1) + 1, columns * (W + 1) + 1) for one channel, with a last axis of 3 for
        three. The border has half the largest value.
    """
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    border = images.max() / 2 if images.size else 0
    shape = (rows * (height + 1) + 1, columns * (width + 1) + 1, channels)
    grid = np.full(shape, border, dtype=np.float32)
    for index, image in enumerate(images):
        top = (index // columns) * (height + 1) + 1
        left = (index % columns) * (width + 1) + 1
        grid[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return grid[..., 0] if channels == 1 else grid


def curve_figure(history: Path) -> Figure:
    """Draw the training and validation curves of a history.csv, in nats."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    with open(history, newline="") as lines:
        rows = list(csv.DictReader(lines))
    for column, label in (("train_nats", "train"), ("valid_nats", "valid")):
        points = [(int(row["epoch"]), float(row[column])) for row in rows if row[column]]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    axes.set(xlabel="epoch", ylabel="nats")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
