"""Codecs and simple models of sounds: zstd and FLAC, histograms and counts of three samples.

Of piano rolls: zstd, and the frequencies of each key, alone and given whether it sounded.
"""

import io
import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import soundfile

from arcore.events import Levels
from arcore.units import nats_to_bits_per_dim
from pipeline.datasets.base import Dataset, Sound, SplitData
from pipeline.evaluation.image_codecs import CODECS
from pipeline.evaluation.lossless_codec import NATS_PER_BYTE, LosslessCodec, require_working
from pipeline.evaluation.result_records import CodecResult, Score

PSEUDO_COUNT = 0.5
STRENGTHS = (1.0, 4.0, 16.0, 64.0, 256.0)


def libraries() -> dict[str, str | None]:
    """Return the versions of the libraries that the bytes depend on."""
    return {
        "pyarrow": pa.__version__,
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }


def sounds_of(split: SplitData) -> Iterator[np.ndarray]:
    """Yield the rows of a split of sounds without their padding, (T, ...) levels."""
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


def codecs_of(sound: Sound) -> list[LosslessCodec]:
    """Return the codecs of sounds: zstd of levels as bytes, and FLAC of 8 bits.

    An effort of 1 is FLAC's level 8; None is soundfile's default. Text and piano rolls have none.
    """
    if sound.is_text or sound.is_roll:
        return [CODECS["zstd"]]
    return [
        CODECS["zstd"],
        *(
            LosslessCodec(
                label=f"{label} (soundfile, measured here)",
                settings="8 bits",
                encode=partial(_encode_flac, sample_rate=sound.sample_rate, effort=effort),
                decode=_decode_flac,
            )
            for label, effort in (("FLAC", None), ("FLAC level 8", 1.0))
        ),
    ]


def _encode_flac(
    x: np.ndarray, event: Levels, sample_rate: int, effort: float | None
) -> list[bytes]:
    # soundfile takes 16 bits, of which FLAC of 8 keeps the upper half
    signed = ((x.astype(np.int16) - event.num_levels // 2) << 8).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(
        file, signed, sample_rate, format="FLAC", subtype="PCM_S8", compression_level=effort
    )
    return [file.getvalue()]


def _decode_flac(parts: Sequence[bytes], event: Levels) -> np.ndarray:
    signed, _ = soundfile.read(io.BytesIO(parts[0]), dtype="int16")
    return np.asarray((signed >> 8) + event.num_levels // 2)


def measure_all(
    dataset: Dataset,
    event: Levels,
    sound: Sound,
    train: SplitData,
    valid: SplitData,
    test: SplitData,
) -> list[CodecResult]:
    """Score the test sounds by each baseline and codec."""
    k, rows = event.num_levels, list(sounds_of(test))
    codecs, sizes = codecs_of(sound), np.array([x.size for x in rows])
    require_working(codecs, rows[0], k)
    found = [("uniform", f"{k} levels", "baseline", sizes * math.log(k))]
    found += _of_keys(train, rows) if sound.is_roll else _of_counts(train, valid, rows, k)
    for one in codecs:
        nats = one.sizes_alone(rows, k) * NATS_PER_BYTE
        found.append((one.label, one.settings, "codec", nats))
    source = dataset.source_nats(test)
    if source is not None:
        found.append(("the source itself", "no model is better", "entropy", source))
    return [_result(*one, sizes, event) for one in found]


def _of_counts(
    train: SplitData, valid: SplitData, rows: Sequence[np.ndarray], num_levels: int
) -> list[tuple[str, str, str, np.ndarray]]:
    model = BackOff(train, num_levels)
    model.fit_strengths(valid)
    marginal, second = (np.array([model.nats(x, order) for x in rows]) for order in (0, 2))
    strengths = "strengths={:g},{:g}".format(*model.strengths)
    return [
        ("marginal histogram", "of train", "baseline", marginal),
        ("order-2 counts with back-off", strengths, "baseline", second),
    ]


def _of_keys(
    train: SplitData, rows: Sequence[np.ndarray]
) -> list[tuple[str, str, str, np.ndarray]]:
    """Score rolls (T, keys), each key by itself: by its frequency, and given its last step.

    Frequencies are (count + 1/2) / (n + 1); before the first step no key sounds.
    """
    counts = np.zeros((2, 2, train.x.shape[2]))  # of the step before, of now, of keys
    for x in sounds_of(train):
        before = _before(x)
        for last, now in np.ndindex(2, 2):
            counts[last, now] += ((before == last) & (x == now)).sum(0)

    def nats(x: np.ndarray, counts: np.ndarray) -> float:
        p = (counts + PSEUDO_COUNT) / (counts.sum(1, keepdims=True) + 2 * PSEUDO_COUNT)
        last = _before(x) if len(p) == 2 else np.zeros_like(x)
        return -float(np.log(p[last, x, np.arange(x.shape[1])]).sum())

    alone = counts.sum(0, keepdims=True)
    return [
        (label, "of train", "baseline", np.array([nats(x, given) for x in rows]))
        for label, given in (
            ("frequencies of keys", alone),
            ("frequencies of keys given the step before", counts),
        )
    ]


def _before(x: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(x[:1]), x[:-1]])


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
        label=label, settings=settings, kind=kind, num_rows=len(nats), score=score, mean_size=size
    )
