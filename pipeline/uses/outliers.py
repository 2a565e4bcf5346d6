"""Real images against others by their probability, raw and corrected for complexity."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from arcore.events import Levels
from arcore.inference import Threshold
from pipeline.core import paths
from pipeline.core.errors import explained, require
from pipeline.data.manifest import read_manifest
from pipeline.data.shard_reader import ShardReader
from pipeline.evaluation import image_codecs
from pipeline.evaluation.scoring import ChosenRows
from pipeline.uses import pictures
from pipeline.uses.use_base import Use, setting, share_of
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Number, UseOutcome

REAL = "real test images"
OF_REAL = ("shuffled pixels", "mirrored")  # kinds that are made of the real images
SCORES = ("-log2 p(x)", "-log2 p(x) - L(x)")
Scores = tuple[np.ndarray, np.ndarray]  # both scores of images of one kind


@dataclass(frozen=True, kw_only=True)
class Outliers(Use):
    """Score images of all kinds, and measure how well scores separate each from real ones."""

    num_rows: int = setting(200, "random images of each kind", least=2)
    num_shown: int = setting(10, "images of each kind in the figure", least=1)
    rate: float = setting(0.05, "false-positive rate to aim at, below 1", least=1e-6)
    num_valid: int = setting(1000, "validation images that the thresholds are fitted to", least=1)
    other: str | None = setting(None, "another dataset of the same event; null for none")

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event, _ = context.images, context.unconditional_model
        if not image_codecs.applies(event):
            raise context.unfit_event("images of up to 256 levels")
        rows = context.rows("test", self.num_rows, self.seed)
        kinds = {REAL: rows.x.cpu(), **others(rows.x.cpu(), event, self.seed)}
        read = None
        if self.other is not None:
            kinds[f"{self.other}, test images"], sha256 = self._of_dataset(self.other, event)
            read = {self.other: sha256}
        scores = {name: _scores(context, x, event) for name, x in kinds.items()}
        valid = context.rows("valid", self.num_valid, self.seed).x.cpu()
        fitted = _scores(context, valid, event)
        with explained("", ValueError):  # of the rate, or of too few validation images
            numbers = _numbers(scores, fitted, self.rate)
        images = pictures.image_grid(kinds, event, self.num_shown)
        caption = "Both scores: histograms, and the false-positive rates of thresholds"
        shown = [
            pictures.show(images, folder / "images.png", "Images of each kind"),
            pictures.show(_figure(scores, fitted), folder / "scores.png", caption),
        ]
        notes = _notes({name: len(x) for name, x in kinds.items()}) + context.bound_note
        return UseOutcome(numbers, shown, notes, other_datasets=read)

    def _of_dataset(self, name: str, event: Levels) -> tuple[Tensor, str]:
        """Return test images of another dataset, and the hash of its shards."""
        folder = paths.shards(name)
        manifest = read_manifest(folder)
        expected = f"a dataset of the same event, {event}"
        require(manifest.event == event, "other", expected, f"{name} of {manifest.event}")
        rows = ChosenRows.of(ShardReader(folder, "test"), count=self.num_rows, seed=self.seed)
        return torch.from_numpy(rows.events(event)), manifest.sha256


def _numbers(scores: Mapping[str, Scores], fitted: Scores, rate: float) -> list[Number]:
    """Return the AUC of each kind, and its share above the threshold, by each score."""
    numbers = []
    for which, score in enumerate(SCORES):
        real = scores[REAL][which]
        limit = -Threshold.fit(-torch.from_numpy(fitted[which]), rate).score
        numbers.append(Number(name=f"threshold of {score}", value=limit, unit="bits"))
        for name, found in ((kind, pair[which]) for kind, pair in scores.items()):
            above = torch.from_numpy(found > limit)
            numbers.append(share_of(f"share above the threshold of {score}, {name}", above))
            if name != REAL:
                value, error = auc(real, found, paired=name in OF_REAL)
                numbers.append(Number(name=f"AUC of {score}, {name}", value=value, stderr=error))
    return numbers


def _notes(counts: Mapping[str, int]) -> str:
    each = f"{counts[REAL]} of each"
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{name}: {count}" for name, count in counts.items())
    return (
        f"The AUC is the probability that an image of the kind has a higher score than a real "
        f"test image ({each}). 0.5 is chance; below 0.5 the kind looks more real than real images. "
        "L(x) is the length in bits of the shortest of PNG, WebP, zstd and JPEG XL (Serra et al., "
        "2020). It corrects for complexity: simple images are probable. Thresholds are fitted to "
        "validation images; real test images above one are false positives."
    )


def others(x: Tensor, event: Levels, seed: int) -> Mapping[str, Tensor]:
    """Return images by kind that are not real, as many as there are real ones (N, C, H, W)."""
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

    Ties count half. The standard error is that of DeLong, DeLong and Clarke-Pearson (Biometrics 44,
    1988): the spread of each image's share in the probability, of both kinds together where the
    i-th of the others was made of the i-th real one (`paired`).
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
    sizes = [[sum(map(len, codec.encode(image, event))) for codec in codecs] for image in x]
    return np.asarray(8.0 * np.array(sizes).min(1))


def _scores(context: UseContext, x: Tensor, event: Levels) -> Scores:
    """Return both scores of images in bits."""
    bits = context.nats(x).numpy() / math.log(2)
    return bits, bits - complexity(x.numpy().astype(np.uint8), event)


def _figure(scores: Mapping[str, Scores], fitted: Scores) -> Figure:
    figure = pictures.new_figure(12, 3.4)
    *panels, rates = figure.subplots(1, 3)
    for which, axes in enumerate(panels):
        values = {name: pair[which] for name, pair in scores.items()}
        ends = [float(np.quantile(v, q)) for v in values.values() for q in (0, 1)]
        bins = np.linspace(min(ends), max(ends) + 1e-9, 41)
        for name, found in values.items():
            width = 2.5 if name == REAL else 1.2
            axes.hist(found, bins, histtype="step", linewidth=width, label=name)
        axes.set(xlabel=f"{SCORES[which]}, bits", ylabel="images")
        limits = np.sort(fitted[which])[::-1]  # thresholds of 1 / (n + 1), 2 / (n + 1), ...
        stated = np.arange(1, len(limits) + 1) / (len(limits) + 1)
        rates.plot(stated, (values[REAL][:, None] > limits).mean(0), label=SCORES[which])
    panels[0].legend(loc="upper right", fontsize=7)
    rates.axline((0, 0), slope=1, linestyle=":")
    rates.set(xlabel="stated false-positive rate", ylabel="rate reached on test images")
    rates.legend(fontsize=7)
    return figure
