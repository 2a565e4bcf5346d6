"""What codecs and simple models need for a dataset's test rows: `codecs/<dataset>.json`."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from arcore.events import Levels, is_levels
from arcore.units import nats_to_bits_per_dim
from pipeline.core import paths
from pipeline.core.errors import require
from pipeline.core.records import write_object
from pipeline.data import shard_reader
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.datasets import catalog
from pipeline.datasets.base import Dataset, Sound, SplitData
from pipeline.datasets.read_transforms import draw, dynamic_binarize, permute_rows
from pipeline.evaluation import image_codecs, video_codecs
from pipeline.evaluation.result_records import CodecMeasurements, CodecResult, Score

log = logging.getLogger(__name__)
Libraries = dict[str, str | None]  # versions by name


def write(dataset: str) -> Path:
    """Measure every codec on all test images, sounds or clips and write `codecs/<dataset>.json`."""
    catalog.load_settings(dataset)
    manifest = read_manifest(paths.shards(dataset))
    libraries, codecs = _measure(manifest)
    measured = CodecMeasurements(
        dataset=dataset,
        dataset_sha256=manifest.sha256,
        split="test",
        unit=manifest.unit,
        libraries=libraries,
        codecs=tuple(codecs),
    )
    for one in measured.codecs:
        log.info("%s: %s %.4f bits/dim", dataset, one.label, one.score.bits_per_dim)
    if not measured.codecs:
        log.info("%s: no images, sounds or clips, no codecs", dataset)
    path = paths.codecs(dataset)
    path.parent.mkdir(exist_ok=True)
    write_object(path, measured.to_dict())
    return path


def _measure(manifest: Manifest) -> tuple[Libraries, list[CodecResult]]:
    """Return the versions of libraries, and what was measured with them."""
    event, rows = manifest.event, manifest.splits["test"].rows
    if image_codecs.applies(event) or video_codecs.applies(event):
        require(rows > 1, f"{manifest.dataset}: test rows", "two or more, for an error", rows)
    if image_codecs.applies(event):
        return image_codecs.libraries(), _of_images(manifest.dataset, event)
    if video_codecs.applies(event):
        return video_codecs.libraries(), _of_clips(manifest, event)
    if manifest.sound is not None and is_levels(event):
        return sound_libraries(), _of_sounds(manifest.dataset, event, manifest.sound)
    return {}, []


def _of_images(dataset: str, event: Levels) -> list[CodecResult]:
    test = shard_reader.read_split(paths.shards(dataset), "test")
    images = test.x
    if test.read_transform is not None:  # the fixed draw on which models are evaluated
        images = dynamic_binarize(images, np.arange(len(images)), 0, 0)
    if _by_class(dataset, test.labels):  # else tenths, which give a mosaic's error, were a class
        images = images[permute_rows(len(images), seed=0)]
    return image_codecs.measure_all(images, event)


def _by_class(dataset: str, labels: np.ndarray | None) -> bool:
    if labels is None or labels.ndim != 1:
        config = catalog.load_settings(dataset)  # files of one's own are not read again for this
        return "kind" not in config and catalog.get_dataset(config).by_class
    return labels[0] != labels[-1] and bool((np.diff(labels) >= 0).all())


def _of_clips(manifest: Manifest, event: Levels) -> list[CodecResult]:
    test = shard_reader.read_split(paths.shards(manifest.dataset), "test")
    rows = np.arange(len(test.x))
    clips = draw(test.read_transform, test.x, event, rows, 0, 0, test.x)
    return video_codecs.measure_all(clips, event, manifest.context_frames)


def _of_sounds(dataset: str, event: Levels, sound: Sound) -> list[CodecResult]:
    splits = [shard_reader.read_split(paths.shards(dataset), split) for split in catalog.SPLITS]
    described = catalog.get_dataset(catalog.load_settings(dataset))
    return measure_sounds(described, event, sound, *splits)


PSEUDO_COUNT = 0.5
STRENGTHS = (1.0, 4.0, 16.0, 64.0, 256.0)


def sound_libraries() -> dict[str, str | None]:
    """Return the versions of the libraries that the bytes depend on."""
    return {
        "pyarrow": pa.__version__,
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }


def sounds_of(split: SplitData) -> Iterator[np.ndarray]:
    """Yield the rows of a split of sounds without their padding, (T,) levels."""
    assert split.labels is not None
    for x, length in zip(split.x, split.labels[:, 0], strict=True):
        yield x[:length]


class BackOff:
    """An order-2 count model: each order's estimate is smoothed with the order below.

        p_n(v | context) = (count(context v) + a_n p_(n-1)(v)) / (count(context) + a_n),

    where p_(-1) is uniform over k levels, a_0 is k / 2, and `strengths` are a_1 and a_2. Samples
    before the first are level k / 2, silence.
    """

    def __init__(
        self, train: SplitData, num_levels: int, strengths: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        self.num_levels, self.strengths = num_levels, strengths
        self.counts = [np.zeros(num_levels ** (n + 1), np.int64) for n in range(3)]
        for x in sounds_of(train):
            for counts, codes in zip(self.counts, self._codes(x), strict=True):
                np.add.at(counts, codes, 1)
        self.totals = [counts.reshape(-1, num_levels).sum(1) for counts in self.counts]

    def _codes(self, x: np.ndarray) -> list[np.ndarray]:
        """Number each sample with its context of each order, (T,) for each order."""
        k = self.num_levels
        padded = np.concatenate([np.full(2, k // 2), x.astype(np.int64)])
        now, last, before = padded[2:], padded[1:-1], padded[:-2]
        return [now, k * last + now, k * (k * before + last) + now]

    def nats(self, x: np.ndarray, order: int) -> float:
        """Return -ln p of a sound under the model of an order."""
        k = self.num_levels
        p = np.full(len(x), 1 / k)
        strengths = (PSEUDO_COUNT * k, *self.strengths)
        for n, codes in enumerate(self._codes(x)[: order + 1]):
            a = strengths[n]
            p = (self.counts[n][codes] + a * p) / (self.totals[n][codes // k] + a)
        return -float(np.log(p).sum())

    def fit_strengths(self, valid: SplitData) -> None:
        """Choose the back-off weights, order by order, that score best on held-out sounds."""
        for order in (1, 2):
            scored = []
            for a in STRENGTHS:
                first, second = self.strengths
                self.strengths = (a, second) if order == 1 else (first, a)
                scored.append((sum(self.nats(x, order) for x in sounds_of(valid)), self.strengths))
            self.strengths = min(scored)[1]


def zstd_bytes(x: np.ndarray) -> int:
    """Return the bytes that zstd needs for a sound's levels as bytes; they are decoded again."""
    codec = pa.Codec("zstd", compression_level=image_codecs.ZSTD_LEVEL)
    data = codec.compress(x.tobytes(), asbytes=True)
    if codec.decompress(data, len(x), asbytes=True) != x.tobytes():
        raise RuntimeError("zstd: a sound did not come back as it was")
    return len(data)


def flac_bytes(
    x: np.ndarray, sample_rate: int, num_levels: int, effort: float | None = None
) -> int:
    """Return the bytes of a FLAC file of 8 bits for a sound's levels; they are decoded again.

    An effort of 1 is FLAC's level 8; None is soundfile's default.
    """
    # soundfile takes 16 bits, of which FLAC of 8 keeps the upper half
    signed = ((x.astype(np.int16) - num_levels // 2) << 8).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(
        file, signed, sample_rate, format="FLAC", subtype="PCM_S8", compression_level=effort
    )
    data = file.getvalue()
    again, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    if not np.array_equal(again, signed):
        raise RuntimeError("FLAC: a sound did not come back as it was")
    return len(data)


def measure_sounds(
    dataset: Dataset,
    event: Levels,
    sound: Sound,
    train: SplitData,
    valid: SplitData,
    test: SplitData,
) -> list[CodecResult]:
    """Score the test sounds by each baseline and codec."""
    k, rows = event.num_levels, list(sounds_of(test))
    sizes = np.array([len(x) for x in rows])
    model = BackOff(train, k)
    model.fit_strengths(valid)
    marginal, second = (np.array([model.nats(x, order) for x in rows]) for order in (0, 2))
    byte = math.log(256)
    found = [
        ("uniform", f"{k} levels", "baseline", sizes * math.log(k)),
        ("marginal histogram", "of train", "baseline", marginal),
        (
            "order-2 counts with back-off",
            "strengths={:g},{:g}".format(*model.strengths),
            "baseline",
            second,
        ),
        (
            "zstd (pyarrow, measured here)",
            f"level={image_codecs.ZSTD_LEVEL}",
            "codec",
            np.array([zstd_bytes(x) for x in rows]) * byte,
        ),
    ]
    for label, effort in (("FLAC", None), ("FLAC level 8", 1.0)):
        flac = np.array([flac_bytes(x, sound.sample_rate, k, effort) for x in rows])
        found.append((f"{label} (soundfile, measured here)", "8 bits", "codec", flac * byte))
    source = dataset.source_nats(test)
    if source is not None:
        found.append(("the source itself", "no model is better", "entropy", source))
    return [_result(*one, sizes, event) for one in found]


def _result(
    label: str, settings: str, kind: str, nats: np.ndarray, sizes: np.ndarray, event: Levels
) -> CodecResult:
    mean, size, root = float(nats.mean()), float(sizes.mean()), math.sqrt(len(nats))
    # the standard error of a ratio of sums
    spread = float((nats - mean / size * sizes).std(ddof=1)) / root
    score = Score(
        nats=mean,
        nats_stderr=float(nats.std(ddof=1)) / root,
        bits_per_dim=nats_to_bits_per_dim(mean, event, size=size),
        bits_per_dim_stderr=nats_to_bits_per_dim(spread, event, difference=True, size=size),
    )
    return CodecResult(
        label=label,
        settings=settings,
        kind=kind,
        num_rows=len(nats),
        score=score,
        mean_size=size,
    )
