"""Evaluating a trained model under its dataset's protocol."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

import arcore
from arcore.clips import ClipModel
from arcore.events import nats_to_bits_per_dim
from arcore.latent import LatentVariableModel
from pipeline import audio, clips, paths, shards, sounds, tracking, training
from pipeline.config import EvaluationConfig, ExperimentConfig
from pipeline.datasets.draws import choose_rows
from pipeline.errors import UserError
from pipeline.files import replacing

log = logging.getLogger(__name__)
MAX_PANELS = 6


def scores(
    model: arcore.AutoregressiveModel,
    split: shards.Split,
    batch_size: int,
    chosen: np.ndarray | None = None,
    context_frames: int = 0,
) -> Tensor:
    """Score rows of a split, all or those chosen, -ln p(x) in nats; each counts once.

    A split that is drawn when read has one fixed draw (epoch 0, seed 0). Of clips whose first
    frames are given, the frames after them are scored, teacher-forced.

    Returns:
        (rows,) float64.
    """
    return mixture(member_scores(model, split, batch_size, chosen, context_frames))


def member_scores(
    model: arcore.AutoregressiveModel,
    split: shards.Split,
    batch_size: int,
    chosen: np.ndarray | None = None,
    context_frames: int = 0,
) -> Tensor:
    """Score rows as `scores` does by each member of an ensemble, (rows, members) float64."""
    parts, places = [], []
    chosen = np.arange(len(split)) if chosen is None else chosen
    for place, batch, given in _batches(model, split, batch_size, chosen):
        with torch.no_grad():
            if isinstance(model, arcore.Ensemble):
                nats = -model.member_log_probs(batch, *given)
            elif isinstance(model, ClipModel):
                nats = -model.frame_log_prob(batch, given[0], context_frames).sum(1, keepdim=True)
            else:
                nats = -model.log_prob(batch, *given)[:, None]
        parts.append(nats.double().cpu())
        places.append(torch.from_numpy(place))
    scored = torch.cat(parts)
    return scored[torch.cat(places).argsort()]


def importance_scores(
    model: LatentVariableModel, split: shards.Split, plan: EvaluationConfig, chosen: np.ndarray
) -> Tensor:
    """Estimate -ln p(x) in nats by importance samples, for at most `plan.importance_rows` rows.

    Returns:
        (rows,) float64, of a random subset of the rows chosen.
    """
    count = min(plan.importance_rows, len(chosen))
    chosen = chosen[choose_rows(len(chosen), count, plan.seed)]
    generator = torch.Generator(model.device).manual_seed(plan.seed)
    parts = [
        -model.importance_weighted(batch, plan.importance_samples, given[0], generator).cpu()
        for _, batch, given in _batches(model, split, plan.batch_size, chosen)
    ]
    return torch.cat(parts).double()


def _batches(
    model: arcore.AutoregressiveModel, split: shards.Split, batch_size: int, chosen: np.ndarray
) -> Iterator[tuple[np.ndarray, Tensor, tuple[Any, ...]]]:
    """Read chosen rows, and what the model takes beside them, onto the model's device.

    Each batch comes with the places of its rows among the chosen ones.
    """
    if sounds.is_open(model):
        yield from sounds.whole_rows(model, split, batch_size, chosen)
        return
    for first in range(0, len(chosen), batch_size):
        place = np.arange(first, min(first + batch_size, len(chosen)))
        rows = chosen[place]
        x = read_rows(split, rows, model.event)
        condition = None
        if model.condition_kind is not None:
            condition = _labels(model, split, rows)
        yield place, torch.from_numpy(x).to(model.device), (condition,)


def read_rows(split: shards.Split, rows: np.ndarray, event: arcore.events.Event) -> np.ndarray:
    """Return events of a whole split in their fixed draw, (len(rows), *event.shape)."""
    return shards.draw(
        split.binarize, split.x[rows], event, rows + split.start, epoch=0, seed=0, pool=split.x
    )


def entropy_scores(
    split: shards.Split,
    event: arcore.events.Gray,
    batch_size: int,
    chosen: np.ndarray,
    context_frames: int,
) -> Tensor:
    """Return the least nats that any model can have on the targets of rows, (rows,) float64."""
    scored = arcore.events.after_frames(event, context_frames)
    assert isinstance(scored, arcore.events.Gray)
    parts = [
        scored.entropy(torch.from_numpy(read_rows(split, rows, event))[:, context_frames:])
        for rows in np.array_split(chosen, max(1, math.ceil(len(chosen) / batch_size)))
    ]
    return torch.cat(parts)


def mixture(nats: Tensor) -> Tensor:
    """Average the probabilities of members: (rows, members) nats to those of the mixture, (rows,).

    Example:
        >>> round(mixture(torch.tensor([[0.0, torch.inf]])).item(), 4)
        0.6931
    """
    return math.log(nats.shape[1]) - torch.logsumexp(-nats, 1)


def choose(split: shards.Split, plan: EvaluationConfig) -> np.ndarray:
    """Return the rows of a split that are scored, ascending: all, or a subset that `seed` names."""
    count = len(split) if plan.num_test_rows is None else min(plan.num_test_rows, len(split))
    return choose_rows(len(split), count, plan.seed)


def mean_and_error(nats: Tensor) -> tuple[float, float]:
    """Return the mean and its standard error, std / sqrt(N)."""
    error = float(nats.std(correction=1)) / math.sqrt(len(nats)) if len(nats) > 1 else math.nan
    return float(nats.mean()), error


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
    model, trained, record = training.load(config.name)
    dataset, plan = config.dataset["name"], config.evaluation
    folder = paths.shards(dataset)
    manifest = shards.read_manifest(folder)
    if trained["dataset_sha256"] != manifest.sha256:
        raise UserError(
            f"{config.name}: expected shards that it was trained on "
            f"({trained['dataset_sha256'][:12]}), got {manifest.sha256[:12]}; train it again"
        )
    context = manifest.context_frames
    if context and not isinstance(model, ClipModel):
        raise UserError(
            f"{config.name}: expected a model over clips for {dataset}, of which {context} frames "
            f"are given, got {trained['model']['name']}"
        )
    scored_event = arcore.events.after_frames(manifest.event, context)
    plan = dataclasses.replace(plan, num_members=plan.num_members or model.num_members)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _scored(model, plan, config.name).to(device).eval()
    began = time.perf_counter()
    test = shards.read_split(folder, "test")
    chosen = choose(test, plan)
    by_member = member_scores(model, test, plan.batch_size, chosen, context)
    nats = mixture(by_member)
    seconds = time.perf_counter() - began
    valid = shards.read_split(folder, "valid")
    valid_scores = scores(model, valid, plan.batch_size, choose(valid, plan), context)
    valid_nats, _ = mean_and_error(valid_scores)
    shown = np.random.default_rng(plan.seed).permutation(len(test))[: plan.num_samples]
    real = read_rows(test, shown, model.event)
    given = None
    if sounds.is_open(model):
        samples, sample_seconds = _sample_sounds(model, plan, test, shown)
    else:
        if context and model.condition_kind is not None:
            given = _labels(model, test, shown)
        samples, sample_seconds = _sample(model, plan, real if context else None, given, context)
    mean, error = mean_and_error(nats)
    size, deviations = None, nats
    if manifest.sound is not None:
        lengths = torch.from_numpy(sounds.lengths(test)[chosen])
        size = float(lengths.double().mean())
        deviations = nats - mean / size * lengths  # of a ratio of sums
    bits_error = mean_and_error(deviations)[1]
    metrics = {
        "experiment": config.name,
        "dataset": dataset,
        "model": trained["model"]["name"],
        "num_members": plan.num_members,
        "unit": manifest.unit,
        "split": "test",
        "nats": mean,
        "nats_stderr": error,
        "bits_per_dim": nats_to_bits_per_dim(mean, scored_event, size=size),
        "bits_per_dim_stderr": nats_to_bits_per_dim(
            bits_error, scored_event, difference=True, size=size
        ),
        "mean_size": size,
        "num_rows": len(nats),
        "num_split_rows": len(test),
        "exact": model.exact,
        "valid_nats": valid_nats,
        "num_parameters": record["num_parameters"],
        "train_seconds": record["train_seconds"],
        "evaluate_seconds": round(seconds, 2),
        "sample_seconds": round(sample_seconds, 3),
        "device": record["device"],
        "published": plan.published,
        "published_member": plan.published_member,
        "published_importance": plan.published_importance,
    }
    if context:
        metrics["context_frames"] = context
    if isinstance(manifest.event, arcore.events.Gray):
        bound = entropy_scores(test, manifest.event, plan.batch_size, chosen, context)
        metrics["entropy_nats"] = mean_and_error(bound)[0]
        metrics["excess_nats"], metrics["excess_nats_stderr"] = mean_and_error(nats - bound)
    if by_member.shape[1] > 1:
        metrics["member_nats"], metrics["member_nats_stderr"] = mean_and_error(by_member.mean(1))
    if isinstance(model, LatentVariableModel) and plan.importance_samples:
        estimates = importance_scores(model, test, plan, chosen)
        estimate, spread = mean_and_error(estimates)
        metrics["nats_importance_weighted"] = estimate
        metrics["nats_importance_weighted_stderr"] = spread
        metrics["importance_samples"] = plan.importance_samples
        metrics["importance_rows"] = len(estimates)
    out = paths.evaluation(dataset, config.name)
    with replacing(out) as temporary:
        (temporary / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        with open(temporary / "scores.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["row", "nats"])
            pairs = zip(chosen.tolist(), nats.tolist(), strict=True)
            writer.writerows((row, f"{value:.6f}") for row, value in pairs)
        (temporary / "media").mkdir()
        drawn = samples.cpu().numpy()
        if manifest.sound is not None:
            labels = cast(np.ndarray, test.labels)[shown]
            pair = audio.Pairs(drawn, real, labels, model.event, manifest.sound)
            pair.write(temporary / "media")
            pair.spectrograms().savefig(temporary / "samples.png")
        elif isinstance(model, ClipModel) and len(model.event.shape) == 4:
            versions = [real, clips.expected(model, real, given, context), drawn]
            clips.save_clips(temporary / "samples.png", versions, model.event, context)
        else:
            pictures = {"samples": drawn, "real": real, **_varied(model, plan)}
            sample_figure(pictures, model.event).savefig(temporary / "samples.png")
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


def _sample_sounds(
    model: arcore.AutoregressiveModel, plan: EvaluationConfig, test: shards.Split, shown: np.ndarray
) -> tuple[Tensor, float]:
    """Sample sounds of the lengths, speakers and texts of the test rows shown."""
    generator = torch.Generator(model.device).manual_seed(plan.seed)
    model, condition = sounds.to_sample(model, test, shown)
    began = time.perf_counter()
    drawn = model.sample(len(shown), condition, generator)
    return drawn, time.perf_counter() - began


def _sample(
    model: arcore.AutoregressiveModel,
    plan: EvaluationConfig,
    real: np.ndarray | None,
    given: Tensor | None,
    context_frames: int,
) -> tuple[Tensor, float]:
    """Sample, or go on from the first frames of real clips; return the seconds that it took too."""
    generator = torch.Generator(model.device).manual_seed(plan.seed)
    began = time.perf_counter()
    if real is None:
        condition = _classes_in_turn(model, plan.num_samples)
        drawn = model.sample(plan.num_samples, condition, generator)
    else:
        observed = torch.zeros(model.event.extents, dtype=torch.bool)
        observed[:context_frames] = True
        drawn = model.impute(torch.from_numpy(real), observed, given, generator)
    return drawn, time.perf_counter() - began


def _labels(model: arcore.AutoregressiveModel, split: shards.Split, rows: np.ndarray) -> Tensor:
    """Return what rows come with, as the condition of a model, on its device."""
    return torch.from_numpy(cast(np.ndarray, split.labels)[rows]).to(model.device)


def _classes_in_turn(model: arcore.AutoregressiveModel, count: int) -> Tensor | None:
    """Return a condition to sample under, None for an unconditional model."""
    if model.num_classes is None:
        return None
    return torch.arange(count, device=model.device) % model.num_classes


def _varied(model: arcore.AutoregressiveModel, plan: EvaluationConfig) -> dict[str, np.ndarray]:
    """Draw samples of a model with latents that differ by the noise of one level alone."""
    if not isinstance(model, LatentVariableModel):
        return {}
    condition = None
    if model.num_classes is not None:
        condition = torch.zeros(plan.num_samples, dtype=torch.int64, device=model.device)
    varied = {}
    for level in model.levels:
        generator = torch.Generator(model.device).manual_seed(plan.seed)
        drawn = model.sample_varying(plan.num_samples, level, condition, generator)
        varied[f"only {level} noise varies"] = drawn.cpu().numpy()
    return varied


def _track(run_id: str | None, metrics: dict[str, Any], out: Path) -> None:
    logger = tracking.RunLogger(run_id)
    measured = ("nats", "nats_stderr", "bits_per_dim", "bits_per_dim_stderr", "sample_seconds")
    logger.metrics({f"test_{name}": metrics[name] for name in measured})
    logger.metrics({"best_valid_nats": metrics["valid_nats"]})
    if "nats_importance_weighted" in metrics:
        logger.metrics({"test_nats_importance_weighted": metrics["nats_importance_weighted"]})
    for picture in ("samples.png", "learning_curve.png"):
        logger.figure(out / picture, picture)
    logger.artifact(out / "metrics.json")


def sample_figure(pictures: Mapping[str, np.ndarray], event: arcore.events.Event) -> Figure:
    """Draw samples beside real events: grids of images, discrete vectors as rows of a matrix.

    Real vectors are points in the planes of neighbouring dimensions, see `scatter_figure`.

    Arguments:
        pictures: events (N, *shape) by title: "samples", "real", and others for a second row.
        event: what is modelled.
    """
    samples, real = pictures["samples"], pictures["real"]
    if isinstance(event, arcore.events.Real) and len(event.shape) == 1:
        return scatter_figure(samples, real)
    columns = max(2, len(pictures) - 2)
    rows = 1 if len(pictures) == 2 else 2
    figure = Figure(figsize=(4.5 * columns, 4.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels[0, 2:]:
        axes.set_axis_off()
    low, high = 0.0, getattr(event, "num_levels", 2) - 1.0
    if isinstance(event, arcore.events.Real) and event.bin_width is None:
        low, high = float(real.min()), float(real.max())
    used = [*panels[0, :2], *panels[1:].ravel()]
    for axes, (title, x) in zip(used, pictures.items(), strict=True):
        grid = tile(x) if len(event.shape) == 3 else x.reshape(len(x), -1)
        if grid.ndim == 3:  # imshow takes colours in [0, 1]
            grid = (grid - low) / (high - low)
        axes.imshow(
            grid,
            cmap="gray",
            vmin=low,
            vmax=high,
            interpolation="nearest",
            aspect="auto" if len(event.shape) != 3 else "equal",
        )
        axes.set(title=title, xticks=[], yticks=[])
    return figure


def scatter_figure(samples: np.ndarray, real: np.ndarray) -> Figure:
    """Draw real vectors (N, D) and samples as points, one panel for each pair (d, d + 1).

    At most six panels, which show the range of the real ones; a lone dimension is a histogram.
    """
    pairs = [(d, d + 1) for d in range(min(real.shape[1] - 1, MAX_PANELS))]
    columns = max(1, min(3, len(pairs)))
    rows = max(1, math.ceil(len(pairs) / columns))
    figure = Figure(figsize=(3 * columns + 1, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    if not pairs:
        panels[0].hist([real[:, 0], samples[:, 0]], bins=20, label=["real", "samples"])
    for axes, (first, second) in zip(panels, pairs, strict=False):
        for x, label in ((real, "real"), (samples, "samples")):
            axes.plot(x[:, first], x[:, second], ".", alpha=0.6, label=label)
        for column, limit in ((first, axes.set_xlim), (second, axes.set_ylim)):
            margin = 0.2 * float(np.ptp(real[:, column])) or 1.0
            limit(float(real[:, column].min()) - margin, float(real[:, column].max()) + margin)
        axes.set(xlabel=f"dimension {first}", ylabel=f"dimension {second}")
    for axes in panels[len(pairs) or 1 :]:
        axes.set_axis_off()
    panels[0].legend(loc="upper right")  # the best place takes long to find
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
