"""Real images against others by their probability, raw and corrected for complexity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from arcore.events import Levels
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.data.manifest import read_manifest
from pipeline.data.shard_reader import ShardReader
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import image_codecs, scoring
from pipeline.uses import pictures
from pipeline.uses.outcome import Outcome
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Subject, spread

REAL = "real test images"
OF_REAL = ("shuffled pixels", "mirrored")  # kinds that are made of the real images
BATCH = 250
SCORES = ("-log2 p(x)", "-log2 p(x) - L(x)")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of outliers.

    Arguments:
        num_rows: random test images, and as many of each other kind.
        num_shown: of each kind in the figure.
        other: another dataset of the same event, whose test images are one of the kinds; null for
            none.
        seed: of rows and draws.
    """

    num_rows: int = 200
    num_shown: int = 10
    other: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.num_rows >= 2, "num_rows", "an integer >= 2", self.num_rows)
        require(self.num_shown >= 1, "num_shown", "an integer >= 1", self.num_shown)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Score images of all kinds, and measure how well each is told from real ones."""
    event = subject.images
    if not image_codecs.applies(event):
        raise UserError(f"{subject.experiment}: expected images of up to 256 levels, got {event}")
    if subject.model.condition_kind is not None:
        raise subject.unfit("an unconditional model")
    image_codecs.require()
    rows = subject.rows("test", settings.num_rows, settings.seed)
    kinds = {REAL: rows.x.cpu(), **others(rows.x.cpu(), event, settings.seed)}
    read = {}
    if settings.other is not None:
        images, sha256 = _of_dataset(settings.other, event, settings)
        kinds[f"{settings.other}, test images"], read[settings.other] = images, sha256
    scores = {name: _scores(subject, name, x, event) for name, x in kinds.items()}
    numbers = []
    for which, score in enumerate(SCORES):
        for name in kinds:
            if name != REAL:
                pair = scores[REAL][which], scores[name][which]
                value, error = auc(*pair, paired=name in OF_REAL)
                numbers.append(Number(name=f"AUC of {score}, {name}", value=value, stderr=error))
    pictures.save(_figure(scores), folder / "scores.png")
    lines = [
        (name, pictures.colours(x[spread(len(x), settings.num_shown)], event))
        for name, x in kinds.items()
    ]
    pictures.save(pictures.grid(lines), folder / "images.png")
    bound = "" if subject.model.exact else " The model only bounds p(x): the bound stands for it."
    counts = {name: len(x) for name, x in kinds.items()}
    each = f"{len(rows)} of each"
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{name}: {count}" for name, count in counts.items())
    notes = (
        f"How well a score tells each kind from real test images ({each}): the "
        "probability that one of it has the higher score. 0.5 is chance; below it, the score takes "
        "the others for more real than real ones. L(x) is the length in bits of the shortest of "
        "PNG, WebP, zstd and JPEG XL (Serra et al., 2020), which raw probabilities lack: simple "
        f"images are probable.{bound}"
    )
    shown = [
        Shown(file="images.png", caption="What is told apart"),
        Shown(file="scores.png", caption="Both scores: histograms, each kind a line"),
    ]
    return Outcome(numbers, shown, notes, other_datasets=read or None)


def others(x: Tensor, event: Levels, seed: int) -> Mapping[str, Tensor]:
    """Return images that are not real, as many as there are real ones, by kind.

    Noise is uniform; the pixels of an image are shuffled with all their colours; images of one
    colour have a random one; mirrored ones are real but for left and right.

    Arguments:
        x: real images (N, C, H, W).
        event: what one is.
        seed: of all draws.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(event.num_levels, x.shape, generator=generator)
    places = torch.rand(len(x), x[0, 0].numel(), generator=generator).argsort(1)
    flat = x.long().flatten(2)
    shuffled = flat.gather(2, places[:, None].expand_as(flat)).view(x.shape)
    one = torch.randint(event.num_levels, (*x.shape[:2], 1, 1), generator=generator)
    return {
        "uniform noise": noise,
        "shuffled pixels": shuffled,
        "one colour": one.expand(x.shape).contiguous(),
        "mirrored": x.long().flip(3),
    }


def auc(real: np.ndarray, other: np.ndarray, paired: bool = False) -> tuple[float, float]:
    """Return the probability that another image's score is above a real one's, and its error.

    Ties count half. The standard error is that of DeLong et al. (1988): the spread of each image's
    share in the probability, of both kinds together where one is made of the other.

    Arguments:
        real: scores, two or more.
        other: the same of others.
        paired: whether the i-th of the others was made of the i-th real one.

    Reference:
        DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988.

    Example:
        >>> auc(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
        (1.0, 0.0)
        >>> auc(np.array([0.0, 1.0]), np.array([0.0, 1.0]), paired=True)
        (0.5, 0.0)
    """
    of_other, of_real = _share_below(real, other), 1 - _share_below(other, real)
    if paired:
        variance = (of_other + of_real).var(ddof=1) / len(real)
    else:
        variance = of_other.var(ddof=1) / len(other) + of_real.var(ddof=1) / len(real)
    return float(of_other.mean()), math.sqrt(variance)


def _share_below(scores: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return the share of scores below each of others, ties half."""
    ordered = np.sort(scores)
    below = np.searchsorted(ordered, of, "left") + np.searchsorted(ordered, of, "right")
    return np.asarray(below / (2 * len(scores)))


def complexity(x: np.ndarray, event: Levels) -> np.ndarray:
    """Return the bits of the shortest lossless code of each image (N, C, H, W), (N,)."""
    codecs = [c for c in image_codecs.CODECS.values() if c.alone and c.applies(event)]
    sizes = [[len(codec.encode(image, event)) for codec in codecs] for image in x]
    return np.asarray(8.0 * np.array(sizes).min(1))


def _scores(subject: Subject, name: str, x: Tensor, event: Levels) -> tuple[np.ndarray, np.ndarray]:
    """Return both scores of images in bits."""
    bits = subject.nats(x, None, BATCH, name).numpy() / math.log(2)
    return bits, bits - complexity(x.numpy().astype(np.uint8), event)


def _of_dataset(name: str, event: Levels, settings: Settings) -> tuple[Tensor, str]:
    """Return test images of another dataset, and the hash of its shards."""
    folder = paths.shards(name)
    manifest = read_manifest(folder)
    expected = f"a dataset of the same event, {event}"
    require(manifest.event == event, "other", expected, f"{name} of {manifest.event}")
    test = ShardReader(folder, "test")
    chosen = choose_rows(len(test), min(settings.num_rows, len(test)), settings.seed)
    return torch.from_numpy(scoring.read_rows(test, chosen, event)), manifest.sha256


def _figure(scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    figure = Figure(figsize=(9, 3.4), layout="constrained", dpi=pictures.DPI)
    panels = figure.subplots(1, 2)
    for which, axes in enumerate(panels):
        values = {name: pair[which] for name, pair in scores.items()}
        ends = [float(np.quantile(v, q)) for v in values.values() for q in (0, 1)]
        bins = np.linspace(min(ends), max(ends) + 1e-9, 41)
        for name, found in values.items():
            width = 2.5 if name == REAL else 1.2
            axes.hist(found, bins, histtype="step", linewidth=width, label=name)
        axes.set(xlabel=f"{SCORES[which]}, bits", ylabel="images")
    panels[0].legend(loc="upper right", fontsize=7)
    return figure
