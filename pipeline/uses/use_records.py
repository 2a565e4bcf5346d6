"""The uses by name, for command lines, and what one leaves: `use.json` and files that it names.

evaluation/<dataset>/uses/<experiment>/<use>/ is one use of one model.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.artifacts import artifact
from pipeline.artifacts.artifact import USE
from pipeline.artifacts.reader import check_files, read_origin
from pipeline.core import paths
from pipeline.core.records import Record, omit_if_default, read_object
from pipeline.experiments import naming

log = logging.getLogger(__name__)
ALL = "all"


class UseDescription(NamedTuple):
    """A use in words: as a heading, what it shows and measures, what it needs of a model."""

    title: str
    shows: str
    needs: str


USES = {
    "inpainting": UseDescription(
        "In-painting",
        "completions of masked test images; nats of the missing pixels given the observed",
        "a single exact model or a pool, of images in levels",
    ),
    "classes": UseDescription(
        "Classes",
        "a row of samples of each class; test images classified by Bayes' rule",
        "a class-conditional model of images",
    ),
    "features": UseDescription(
        "Hidden units as features",
        "accuracy of logistic regression on hidden units with few labels, compared with pixels",
        "unconditional NADE or MADE, on data with labels",
    ),
    "outliers": UseDescription(
        "Real against other images",
        "how well log p separates real images from others, raw and corrected for complexity",
        "an unconditional model of images",
    ),
    "super_resolution": UseDescription(
        "Super-resolution",
        "images drawn given every second or fourth pixel; PSNR and SSIM, compared with bicubic",
        "parallel_multiscale, multiscale_pixelrnn or an orderless model",
    ),
    "denoising": UseDescription(
        "Denoising",
        "images drawn given noisy ones; PSNR and SSIM, compared with a median filter",
        "a single exact model or a pool, of images in levels",
    ),
    "memorisation": UseDescription(
        "Memorisation",
        "the training image nearest to each sample; nats of training and validation images",
        "a model of images in levels",
    ),
    "learned": UseDescription(
        "What it learned",
        "first-layer weights (NADE, MADE, DeepNADE), probabilities of samples, softmax activations",
        "a model of images in levels",
    ),
    "structure": UseDescription(
        "Structure near and far",
        "covariances of near and far pixels in samples, compared with test images",
        "an unconditional model of images in levels",
    ),
    "orderings": UseDescription(
        "Orderings",
        "nats of test rows by ensembles of 1, 2, 4, ... orderings of one network",
        "an orderless model (deep_nade, conv_nade), or MADE with an ordering for each mask",
    ),
    "paired": UseDescription(
        "Paired differences",
        "what a model gains over other experiments on the same test rows, with its error",
        "others=[experiment, ...] of the same data",
    ),
    "noise_levels": UseDescription(
        "Levels of noise",
        "what changes as the noise of one level varies; the KL and the units in use of each",
        "a model of images with latents (pixelvae)",
    ),
    "interpolation": UseDescription(
        "Interpolation",
        "images along the line between the latents, or vectors, of two test images",
        "a vector-conditional model of images, or an unconditional one with latents (pixelvae)",
    ),
    "continuation": UseDescription(
        "Continuation",
        "sounds drawn given their first half, to play; the information of the first half in bits",
        "a model of sounds",
    ),
    "speakers": UseDescription(
        "Speakers",
        "the same text drawn in every voice; the speaker of test sounds by Bayes' rule",
        "a speaker-conditional model of sounds",
    ),
    "harmonisation": UseDescription(
        "Harmonisation",
        "lower voices drawn under the highest voice of test pieces, to play; nats of each part",
        "an exact, unconditional model of piano rolls",
    ),
    "video_prediction": UseDescription(
        "Video prediction",
        "clips that go on after their given frames, animated; PSNR and SSIM of each way",
        "a model of clips whose first frames are given",
    ),
}


def text_of() -> str:
    """Return what `python -m stages.use` lists."""
    width = max(map(len, USES))
    lines = ["USE is one of:"]
    for name, use in USES.items():
        lines += [f"  {name:{width}}  {use.shows};", f"  {'':{width}}  needs {use.needs}"]
    lines.append(f"  {ALL:{width}}  the uses that params.yaml lists for the experiment")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Number(Record):
    """A number of a use.

    Attributes:
        name: the same for all models; "a: b" is the column b of the table a.
        stderr: its standard error, None where it has none.
        unit: in words, "" without one.
        sign: of the value: nothing, or ~ for an estimate.
    """

    name: str
    value: float
    stderr: float | None = omit_if_default(None)
    unit: str = omit_if_default("")
    sign: str = omit_if_default("")

    def __str__(self) -> str:
        """Say it in a line of a log."""
        error = "" if self.stderr is None else f" +- {self.stderr:.3g}"
        return f"{self.name}: {f'{self.sign} {self.value:.4g}{error} {self.unit}'.strip()}"


@dataclass(frozen=True, kw_only=True)
class Shown(Record):
    """A file to look at or to listen to, .png or .wav, in the use's folder."""

    file: str
    caption: str


@dataclass(frozen=True)
class UseOutcome(Record):
    """What came out of a use.

    Attributes:
        notes: what to know of the numbers, one sentence or more.
        others: hashes of the weights of other experiments that it was compared with, by name.
        other_datasets: hashes of the shards of other datasets that it read, by name.
    """

    numbers: Sequence[Number]
    shown: Sequence[Shown]
    notes: str
    others: dict[str, str] | None = omit_if_default(None)
    other_datasets: dict[str, str] | None = omit_if_default(None)


@dataclass(frozen=True, kw_only=True)
class UseRecord(UseOutcome):
    """A use of one model, with the hashes of the model's weights and of the shards."""

    use: str
    experiment: str
    model: str
    dataset: str
    weights_sha256: str
    dataset_sha256: str
    settings: dict[str, object]
    numbers: tuple[Number, ...]
    shown: tuple[Shown, ...]

    def is_current(self, dataset_sha256: str) -> bool:
        """Whether its own weights and shards are what the use read."""
        models = {self.experiment: self.weights_sha256, **(self.others or {})}
        datasets = self.other_datasets or {}
        read = [(artifact.usable_model(name, self.dataset), models[name]) for name in models]
        read += [(artifact.shards(name), datasets[name]) for name in datasets]
        same = all(one.content_sha256() in (None, sha256) for one, sha256 in read)
        return self.use in USES and self.dataset_sha256 == dataset_sha256 and same


@dataclass(frozen=True, kw_only=True)
class UseTiming(Record):
    """Where a use ran, and with what code: `timing.json`, which DVC ignores."""

    device: str
    seconds: float
    commit: str

    @classmethod
    def of(cls, folder: Path) -> UseTiming | None:
        """Read where the record of a use's folder comes from; None where that is not known."""
        found = read_origin(folder, USE)
        return None if found is None else cls.from_dict(found, str(folder / USE.origin))


def folder_of(dataset: str, experiment: str) -> Path:
    """Return the folder of the uses of an experiment."""
    return paths.root() / "evaluation" / dataset / "uses" / experiment


def read(folder: Path) -> UseRecord:
    """Read the record of a use's folder."""
    path = folder / USE.main
    record = UseRecord.from_dict(read_object(path), str(path))
    check_files(folder, f"run `python -m stages.use {record.use} {record.experiment}`")
    return record


def files(dataset: str) -> list[Path]:
    """Return the files of a dataset's uses, in order, of none that was changed by hand."""
    found = []
    for path in sorted(folder_of(dataset, "").glob(f"*/*/{USE.main}")):
        names = (path.parent.name, path.parent.parent.name)
        if not any(name.startswith(".") or naming.is_variant(name) for name in names):
            found.append(path)
    return found


def read_all(dataset: str, dataset_sha256: str) -> list[tuple[UseRecord, Path]]:
    """Return the records of `files` with their folders, in the order of `USES`.

    What was made with other data than the shards, or weights than those in models/ (where there
    are none, in results/), is left out, with a warning.
    """
    found = []
    for folder in (path.parent for path in files(dataset)):
        record = read(folder)
        if record.is_current(dataset_sha256):
            found.append((record, folder))
        else:
            log.warning("warning: %s: an old use, or of other data or weights; left out", folder)
    order = list(USES)
    return sorted(found, key=lambda one: (order.index(one[0].use), one[0].experiment))
