"""What evaluation measures, as records: the names in `metrics.json` and `codecs/*.json`.

A result is `metrics.json` but for its seconds and its device, which are in `timing.json`: DVC
ignores that file, so that `dvc.lock` has nothing in it that differs from run to run. Rendering a
result in words is the work of `pipeline.reporting`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from arcore import units
from arcore.events import Event
from pipeline.artifacts.artifact import EVALUATION
from pipeline.artifacts.reader import read_origin
from pipeline.core.errors import require
from pipeline.core.records import Record, omit_if_default, read_object, write_object
from pipeline.stage import Projection

TIMING = ("train_seconds", "evaluate_seconds", "sample_seconds", "coded_seconds", "device")
Counterpart = Mapping[str, str]  # {model, variant, split} of a published result


def require_finite(record: Record, where: str) -> None:
    """Refuse a record that has an infinite number, or one that is no number."""
    for key, value in record.to_dict().items():
        fits = not isinstance(value, float) or math.isfinite(value)
        require(fits, f"{where}: {key}", "a finite number", value)


@dataclass(frozen=True, kw_only=True)
class Score(Record):
    """A mean over rows and its standard error, in nats per scored event and in bits/dim."""

    nats: float
    nats_stderr: float
    bits_per_dim: float
    bits_per_dim_stderr: float

    @classmethod
    def from_nats(
        cls, nats: float, stderr: float, event: Event, size: float | None = None
    ) -> Score:
        """Build the score of a mean of nats per event; `size` is the mean D of open events."""
        return cls(
            nats=nats,
            nats_stderr=stderr,
            bits_per_dim=units.nats_to_bits_per_dim(nats, event, size=size),
            bits_per_dim_stderr=units.nats_to_bits_per_dim(
                stderr, event, difference=True, size=size
            ),
        )

    def in_unit(self, unit: str, event: Event) -> tuple[float, float]:
        """Return the mean and its standard error in one of `arcore.units.UNITS`."""
        if unit == "bits_per_dim":
            return self.bits_per_dim, self.bits_per_dim_stderr
        if event.is_open and unit != "nats":  # a ratio of means, with its own error, as bits/dim
            nats = units.nats_to(unit, math.log(2), event, size=1.0)  # of a bit of a dimension
            return self.bits_per_dim * nats, self.bits_per_dim_stderr * nats
        return units.nats_to(unit, self.nats, event), units.nats_to(unit, self.nats_stderr, event)

    def check(self, event: Event, size: float | None, where: str) -> None:
        """Refuse a score whose nats and bits/dim do not agree."""
        fits = not event.is_open if size is None else size > 0
        require(fits, f"{where}: mean_size", "a number > 0 for events of open length", size)
        bits = units.nats_to_bits_per_dim(self.nats, event, size=size)
        fits = math.isclose(bits, self.bits_per_dim, rel_tol=1e-6, abs_tol=1e-9)
        expected = f"{bits:g}, of {self.nats:g} nats"
        require(fits, f"{where}: bits_per_dim", expected, self.bits_per_dim)


@dataclass(frozen=True, kw_only=True)
class Excess(Record):
    """The least nats that gray targets or a known source allow, and how far the test is above.

    Older records have no error in bits/dim.
    """

    entropy_nats: float
    excess_nats: float
    excess_nats_stderr: float
    excess_bits_per_dim_stderr: float | None = omit_if_default(None)


@dataclass(frozen=True, kw_only=True)
class MemberScore(Record):
    """What a member of an ensemble scores, averaged over them."""

    member_nats: float
    member_nats_stderr: float


@dataclass(frozen=True, kw_only=True)
class ImportanceEstimate(Record):
    """An importance-weighted estimate, below a bound on the negative log-likelihood.

    It is the mean of the bounds of all rows, and of the difference on `importance_rows` of them.
    """

    nats_importance_weighted: float
    nats_importance_weighted_stderr: float
    importance_samples: int
    importance_rows: int


@dataclass(frozen=True, kw_only=True)
class BoundTerms(Record):
    """What each level of noise costs, where the score is a bound: a KL of nearly 0 tells nothing.

    Attributes:
        level_nats: mean nats by level, from the top: KLs of latents, then -ln p of the pixels.
        active_units: of each level of latents (`arcore.inference.latent_levels.active_units`).
        level_units: of each level of latents.
    """

    level_nats: Mapping[str, float]
    active_units: Mapping[str, int]
    level_units: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Coded(Record):
    """The size of the rows that were scored under `arcore.coding.compress`, header included."""

    coded_bytes: int
    coded_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class FurtherTest(Record):
    """What a test split beyond `test` scores, as in a `Result`."""

    split: str
    num_rows: int
    num_split_rows: int
    score: Score
    mean_size: float | None = omit_if_default(None)


@dataclass(frozen=True, kw_only=True)
class Result(Record):
    """What was measured of one experiment: the content of `metrics.json`, in its order.

    Attributes:
        unit: the dataset's, one of `arcore.units.UNITS`.
        score: on `num_rows` rows, of the `num_split_rows` of the split if that is known.
        mean_size: mean D of the rows, for events of open length.
        receptive_field: past steps that a conditional depends on, None for all.
        num_evaluations: of networks to draw an event, None where they are as many as the blocks of
            the model's schedule.
        exact: False where the score only bounds the negative log-likelihood from above.
        device: of the training.
        config_sha256, entry_sha256: of the experiment as composed, and of its entry of params.yaml
            with its base as they are written; older records have none.
        published, published_member, published_importance: {model, variant} of the published
            counterparts, and their split.
        num_folds: above 1, the score is the mean over so many folds, its error that over folds.
    """

    experiment: str
    dataset: str
    model: str
    num_members: int
    unit: str
    split: str = "test"
    score: Score
    mean_size: float | None = None
    evaluate_seconds: float | None = None
    context_frames: int = omit_if_default(0)
    excess: Excess | None = None
    receptive_field: int | None = omit_if_default(None)
    num_evaluations: int | None = omit_if_default(None)
    member: MemberScore | None = None
    importance: ImportanceEstimate | None = None
    bound: BoundTerms | None = None
    coded: Coded | None = None
    further_tests: tuple[FurtherTest, ...] = omit_if_default(())
    num_rows: int
    num_split_rows: int | None = None
    exact: bool = True
    valid_nats: float | None = None
    num_parameters: int | None = None
    train_seconds: float | None = None
    sample_seconds: float | None = None
    device: str | None = None
    published: Counterpart | None = None
    published_member: Counterpart | None = None
    published_importance: Counterpart | None = None
    num_folds: int = omit_if_default(1)
    weights_sha256: str | None = omit_if_default(None)
    dataset_sha256: str | None = omit_if_default(None)
    config_sha256: str | None = omit_if_default(None)
    entry_sha256: str | None = omit_if_default(None)
    code_sha256: str | None = omit_if_default(None)
    num_valid_rows: int | None = omit_if_default(None)
    valid_rows_sha256: str | None = omit_if_default(None)

    @classmethod
    def read(cls, folder: Path) -> Result:
        """Read a result; its seconds and device are None where `timing.json` is of another one.

        DVC restores `metrics.json` from its cache, and leaves a `timing.json` as it is.
        """
        path = folder / "metrics.json"
        timing = read_origin(folder, EVALUATION) or {}
        found = read_object(path) | {key: timing[key] for key in TIMING if key in timing}
        return cls.from_dict(found, str(path))

    def write(self, folder: Path) -> None:
        """Write `metrics.json` and `timing.json` into an evaluation's folder."""
        whole = self.to_dict()
        timing = {key: whole.pop(key) for key in TIMING if key in whole}
        write_object(folder / "metrics.json", whole)
        write_object(folder / "timing.json", timing)

    def summary(self, event: Event) -> dict[str, dict[str, object]]:
        """Return what `metrics/<experiment>.json` says: columns of `dvc metrics`, as for all."""
        value, stderr = self.score.in_unit(self.unit, event)
        relation = self.at_most_in(self.unit, event).strip() or "exact"
        said = {"value": value, "stderr": stderr, "unit": self.unit, "relation": relation}
        return {self.experiment: said}

    def projection(self, run_id: str | None = None) -> Projection:
        """Return what the MLflow run of its training shows of it."""
        return Projection(
            run_id=run_id,
            values=self.tracked(),
            tags={"exact": str(self.exact).lower()},
            files=("samples.png", "metrics.json"),
        )

    def tracked(self) -> dict[str, float]:
        """Return the numbers that MLflow shows of it; no name is a curve's, which it would extend.

        The first ten letters of two names differ: titles of MLflow's charts are cut after these.
        """
        importance = self.importance
        numbers = {
            "test_nats": self.score.nats,
            "test_bits_per_dim": self.score.bits_per_dim,
            "stderr_nats": self.score.nats_stderr,
            "stderr_bits_per_dim": self.score.bits_per_dim_stderr,
            "importance_weighted_nats": importance.nats_importance_weighted if importance else None,
            "best_valid_nats": self.valid_nats,
            "num_parameters": self.num_parameters,
            "train_seconds": self.train_seconds,
            "sample_seconds": self.sample_seconds,
        }
        return {name: float(value) for name, value in numbers.items() if value is not None}

    def is_bound_in(self, unit: str, event: Event) -> bool:
        """Whether a value in a unit is only bounded: bits of dequantised levels always are."""
        return not self.exact or (unit != "nats" and event.bin_width is not None)

    def at_most_in(self, unit: str, event: Event) -> str:
        """Return what precedes a value in a unit in words: "at most ", or nothing."""
        return "at most " if self.is_bound_in(unit, event) else ""

    def check(self, where: str, event: Event) -> None:
        """Refuse values that no result has; `event` is what was scored."""
        fits = self.unit in units.UNITS
        require(fits, f"{where}: unit", f"one of {list(units.UNITS)}", self.unit)
        fits = self.num_members >= 1
        require(fits, f"{where}: num_members", "an integer >= 1", self.num_members)
        require_finite(self, where)
        self.score.check(event, self.mean_size, where)
        for one in self.further_tests:
            one.score.check(event, one.mean_size, f"{where}: {one.split}")


@dataclass(frozen=True, kw_only=True)
class CodecResult(Record):
    """What a general lossless codec, or a simple model, needs for the test rows.

    Attributes:
        label: its name in tables, which says that it was measured here.
        kind: codec, baseline (a simple model), or entropy (of a known source).
        bytes: of all images, None for sounds and baselines.
        mean_size: mean D of sounds.
    """

    label: str
    settings: str
    kind: str = "codec"
    num_rows: int
    bytes: int | None = omit_if_default(None)
    score: Score
    mean_size: float | None = omit_if_default(None)

    def to_dict(self) -> dict[str, object]:
        """Return plain values; that codecs of images are codecs is not written."""
        described = super().to_dict()
        if self.mean_size is None and self.kind == "codec":
            del described["kind"]
        return described


@dataclass(frozen=True, kw_only=True)
class CodecMeasurements(Record):
    """The content of `codecs.json`; `libraries` are versions that the bytes depend on."""

    dataset: str
    dataset_sha256: str
    split: str
    unit: str
    libraries: Mapping[str, str | None]
    codecs: tuple[CodecResult, ...]

    def check(self, where: str) -> None:
        """Refuse values that no measurement has."""
        for one in self.codecs:
            require_finite(one, f"{where}: {one.label}")
