"""Measured results: what evaluation and codecs wrote, read back and checked."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from arcore import events, units
from arcore.zoo import list_models, model_class
from pipeline.core import paths
from pipeline.core.errors import UserError

log = logging.getLogger(__name__)

UNITS = {
    "nats": "nats",
    "bits_per_dim": "bits/dim",
    "nats_per_frame": "nats/frame",
    "nats_per_dim": "nats/dim",
}
_OTHERS = {"config", "event", "folder", "num_averaged", "approximate"}  # not of metrics.json
VALUES = ("nats", "nats_stderr", "bits_per_dim", "bits_per_dim_stderr")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `evaluate` measured of one experiment, with the config of its model.

    Attributes:
        num_members: 1 for a single model, else an ensemble of so many.
        unit: the dataset's, one of `UNITS`; nats (per scored event) and bits are given.
        nats_stderr, bits_per_dim_stderr: standard errors of the mean over `num_rows` rows, of the
            `num_split_rows` of the test split if that is known.
        device: of the training, as far as it is known.
        published: `{model, variant}` of the published counterpart.
        member_nats, member_nats_stderr: what a member of an ensemble scores, averaged over them.
        published_member: `{model, variant}` of a member's counterpart.
        num_averaged: above 1, the values are the mean over so many single models.
        exact: False where the number only bounds the negative log-likelihood from above.
        nats_importance_weighted, nats_importance_weighted_stderr: an estimate, below the bound, of
            `importance_samples` samples a row on `importance_rows` rows, where one was made.
        published_importance: `{model, variant}` of the estimate's counterpart.
        approximate: whether the values are that estimate.
        num_folds: above 1, the mean over so many folds; standard errors are over folds then.
        config: the content of the model's `config.yaml`.
        context_frames: frames of a clip that were given.
        entropy_nats: the least nats that gray targets allow, or the nats under the source itself,
            where it is known.
        excess_nats, excess_nats_stderr: nats above that.
        excess_bits_per_dim_stderr: standard error of that in bits/dim.
        receptive_field: past samples that a conditional depends on, of a WaveNet.
        num_evaluations: of networks to draw an event, where pixels are drawn in parallel.
        event: what is scored.
        mean_size: mean D of the rows, for events of open length.
        folder: `evaluation/<dataset>/<experiment>`.
    """

    experiment: str
    dataset: str
    model: str
    num_members: int
    unit: str
    nats: float
    nats_stderr: float
    bits_per_dim: float
    bits_per_dim_stderr: float
    num_rows: int
    num_split_rows: int | None = None
    member_nats: float | None = None
    member_nats_stderr: float | None = None
    published_member: Mapping[str, Any] | None = None
    num_averaged: int = 1
    exact: bool = True
    nats_importance_weighted: float | None = None
    nats_importance_weighted_stderr: float | None = None
    importance_samples: int | None = None
    importance_rows: int | None = None
    published_importance: Mapping[str, Any] | None = None
    approximate: bool = False
    num_folds: int = 1
    valid_nats: float | None = None
    num_parameters: int | None = None
    train_seconds: float | None = None
    device: str | None = None
    published: Mapping[str, Any] | None = None
    context_frames: int = 0
    entropy_nats: float | None = None
    excess_nats: float | None = None
    excess_nats_stderr: float | None = None
    excess_bits_per_dim_stderr: float | None = None
    receptive_field: int | None = None
    num_evaluations: int | None = None
    config: Mapping[str, Any] = field(repr=False)
    event: events.Event
    mean_size: float | None = None
    folder: Path

    @property
    def value(self) -> float:
        """The test value in the dataset's unit."""
        return self.value_in(self.unit)

    def value_in(self, unit: str) -> float:
        """Return the test value in a unit."""
        return self.bits_per_dim if unit == "bits_per_dim" else self._in(unit, self.nats)

    def stderr_in(self, unit: str) -> float:
        """Return the test value's standard error in a unit."""
        if unit == "bits_per_dim":
            return self.bits_per_dim_stderr
        return self._in(unit, self.nats_stderr)

    def _in(self, unit: str, nats: float) -> float:
        return units.nats_to(unit, nats, self.event, difference=True)

    @property
    def entropy(self) -> float | None:
        """The entropy bound in the dataset's unit."""
        if self.entropy_nats is None:
            return None
        if self.unit != "bits_per_dim":
            return self._in(self.unit, self.entropy_nats)
        return units.nats_to_bits_per_dim(self.entropy_nats, self.event, size=self.mean_size)

    @property
    def bound(self) -> tuple[str, str]:
        """In words and the dataset's unit: the entropy bound, and how far the value is above it."""
        entropy, excess, error = self.entropy, self.excess_nats, self.excess_nats_stderr
        if entropy is None or excess is None or error is None:
            return "-", "-"
        if self.unit != "bits_per_dim":
            above = with_error(self._in(self.unit, excess), self._in(self.unit, error))
            return f"{entropy:.2f}", above
        bits = units.nats_to_bits_per_dim(excess, self.event, difference=True, size=self.mean_size)
        if self.excess_bits_per_dim_stderr is None:
            return f"{entropy:.3f}", "-"
        return f"{entropy:.3f}", with_error(bits, self.excess_bits_per_dim_stderr)

    def exact_in(self, unit: str) -> bool:
        """Whether the value in a unit is exact: bits of dequantised levels are only bounded."""
        width = self.event.bin_width if isinstance(self.event, events.Real) else None
        return self.exact and (unit == "nats" or width is None)

    def relation_in(self, unit: str) -> str:
        """Say as in `published_results.yaml` what the value in a unit is to the true one."""
        if self.approximate:
            return "approx"
        return "exact" if self.exact_in(unit) else "upper_bound"

    def sign_in(self, unit: str) -> str:
        """What precedes the value in a unit: nothing, <= or ~."""
        return SIGNS[self.relation_in(unit)]

    @property
    def members(self) -> str:
        """In words: one, or an ensemble of so many; of each fold, where there are several."""
        members = "one" if self.num_members == 1 else f"ensemble of {self.num_members}"
        if self.num_averaged > 1:
            members = f"one (mean of {self.num_averaged})"
        return members if self.num_folds == 1 else f"{members} for each of {self.num_folds} folds"

    @property
    def rows(self) -> str:
        """In words: nothing where the whole test split was scored, else how much of it."""
        if self.num_split_rows is None or self.num_rows >= self.num_split_rows:
            return ""
        return f" ({self.num_rows:,} of {self.num_split_rows:,} rows)"

    def of_member(self) -> Result:
        """Return what a member of this ensemble scores, averaged over them."""
        if self.member_nats is None or self.member_nats_stderr is None:
            raise UserError(
                f"{self.experiment}: evaluation.published_member: expected an ensemble, got "
                f"num_members {self.num_members}"
            )
        return self._with(
            self.member_nats,
            self.member_nats_stderr,
            experiment=f"{self.experiment} (a member)",
            num_members=1,
            num_averaged=self.num_members,
            published=self.published_member,
        )

    def of_importance(self) -> Result:
        """Return the importance-weighted estimate of this bound."""
        nats, error = self.nats_importance_weighted, self.nats_importance_weighted_stderr
        if nats is None or error is None:
            raise UserError(
                f"{self.experiment}: evaluation.published_importance: expected an estimate, which "
                "a model with latents has where evaluation.importance_samples is above 0"
            )
        return self._with(
            nats,
            error,
            experiment=f"{self.experiment} ({self.importance_samples:,} importance samples)",
            approximate=True,
            num_rows=self.importance_rows or self.num_rows,
            published=self.published_importance,
        )

    def _with(self, nats: float, stderr: float, **changed: Any) -> Result:
        """Return this with another test value, which has no validation value beside it."""
        return dataclasses.replace(
            self,
            nats=nats,
            nats_stderr=stderr,
            bits_per_dim=units.nats_to_bits_per_dim(nats, self.event),
            bits_per_dim_stderr=units.nats_to_bits_per_dim(stderr, self.event, difference=True),
            valid_nats=None,
            **changed,
        )

    @property
    def settings(self) -> str:
        """The hyperparameters that differ from the model's defaults, and the search they are of."""
        given = {k: v for k, v in self.config["model"].items() if k != "name"}
        if self.model not in list_models():
            return "-"
        defaults = model_class(self.model).Config().to_dict()
        changed = [f"{k}={v}" for k, v in given.items() if v != defaults.get(k)]
        facts = {name: getattr(self, name) for name in ("receptive_field", "num_evaluations")}
        changed += [f"({k}={v})" for k, v in facts.items() if v is not None]
        base = PurePosixPath(str(self.config.get("base") or ""))
        if base.parts[:1] == ("searches",):
            changed.append(f"(found by {base.parent})")
        return " ".join(changed).replace("'", "") or "defaults"


@dataclass(frozen=True, kw_only=True)
class CodecResult:
    """What stage `codecs` measured of one general lossless codec on the test images.

    Attributes:
        label: its name in tables, which says that it was measured here.
        settings: in words.
        unit: the dataset's unit; both values are given.
        nats_stderr, bits_per_dim_stderr: standard errors of the mean over `num_rows` images.
        kind: codec, baseline (a simple model of sounds), or entropy (of a known source).
        mean_size: mean D of the rows, for events of open length.
    """

    label: str
    settings: str
    unit: str
    nats: float
    nats_stderr: float
    bits_per_dim: float
    bits_per_dim_stderr: float
    num_rows: int
    kind: str = "codec"
    mean_size: float | None = None

    @property
    def value(self) -> float:
        """The test value in the dataset's unit."""
        return self.nats if self.unit == "nats" else self.bits_per_dim


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: naming the file, if it is missing or malformed.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run the stage that writes it") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object, got {type(content).__name__}")
    return content


def read_results(dataset: str) -> list[Result]:
    """Read `evaluation/<dataset>/*/metrics.json`, with each model's config; by experiment.

    What was trained on other data than the shards is left out, with a warning.

    Raises:
        UserError: if nothing is evaluated, or naming the file that is malformed.
    """
    found = sorted((paths.root() / "evaluation" / dataset).glob("*/metrics.json"))
    present = paths.shards(dataset) / "manifest.json"
    data = read_json(present).get("sha256") if present.is_file() else None
    results = []
    for result in map(_read_result, found):
        trained = result.config.get("dataset_sha256", data)  # that of folds have none
        if data in (None, trained):
            results.append(result)
        else:
            log.warning(
                "warning: evaluation/%s/%s: of other data (%s) than the shards (%s); left out",
                dataset, result.experiment, str(trained)[:12], str(data)[:12],
            )  # fmt: skip
    if not results:
        raise UserError(f"evaluation/{dataset}: no evaluated experiment; run evaluate first")
    return results


def _read_result(path: Path) -> Result:
    metrics = read_json(path)
    own = path.with_name("config.yaml")  # as an outcome over folds has, of whose models none stays
    config = _read_config(own if own.is_file() else paths.model(path.parent.name) / own.name)
    try:
        event = events.from_dict(config["event"])
        known = {item.name: item for item in dataclasses.fields(Result) if item.name not in _OTHERS}
        needed = {name for name, item in known.items() if item.default is dataclasses.MISSING}
        if missing := needed - set(metrics):
            raise ValueError(f"missing {', '.join(sorted(missing))}")
        values: dict[str, Any] = {"published": (config.get("evaluation") or {}).get("published")}
        values |= {name: metrics[name] for name in known if name in metrics}
        event = events.after_frames(event, values.get("context_frames", 0))
        training = paths.model(path.parent.name) / "training.json"
        if training.is_file():
            values["device"] = read_json(training).get("device") or values.get("device")
        result = Result(**values, config=config, event=event, folder=path.parent)
        _check(result)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    return result


def read_codecs(dataset: str, unit: str, event: events.Event) -> list[CodecResult]:
    """Read `codecs/<dataset>.json`, best first.

    Raises:
        UserError: if it is missing, malformed or of other data than the shards.
    """
    path = paths.codecs(dataset)
    if not path.is_file():
        raise UserError(f"{path}: missing; run `python -m stages.codecs {dataset}`")
    measured, manifest = read_json(path), read_json(paths.shards(dataset) / "manifest.json")
    expected, got = (
        str(found) for found in (manifest.get("sha256"), measured.get("dataset_sha256"))
    )
    if got != expected:
        raise UserError(
            f"{path}: expected measurements on the shards ({expected[:12]}), got {got[:12]}; "
            f"run `python -m stages.codecs {dataset}`"
        )
    optional = {"kind", "mean_size"}
    names = {item.name for item in dataclasses.fields(CodecResult)} - {"unit", *optional}
    results = []
    try:
        for entry in measured["codecs"]:
            given = {name: entry[name] for name in optional if name in entry}
            given |= {name: entry[name] for name in names}
            result = CodecResult(unit=unit, **given)
            _check_values(result, event)
            results.append(result)
    except KeyError as error:
        raise UserError(f"{path}: missing {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    return sorted(results, key=lambda result: (result.value, result.label))


def _check(result: Result) -> None:
    if result.unit not in UNITS:
        raise ValueError(f"unit: expected one of {list(UNITS)}, got {result.unit!r}")
    if not isinstance(result.num_members, int) or result.num_members < 1:
        raise ValueError(f"num_members: expected an integer >= 1, got {result.num_members!r}")
    if result.valid_nats is not None and not math.isfinite(result.valid_nats):
        raise ValueError(f"valid_nats: expected a number, got {result.valid_nats!r}")
    _check_values(result, result.event)


def _check_values(result: Result | CodecResult, event: events.Event) -> None:
    for name in VALUES:
        value = getattr(result, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise ValueError(f"{name}: expected a number, got {value!r}")
    bits = units.nats_to_bits_per_dim(float(result.nats), event, size=result.mean_size)
    if not math.isclose(bits, result.bits_per_dim, rel_tol=1e-4, abs_tol=1e-6):
        raise ValueError(
            f"bits_per_dim: expected {bits:.6g} for {result.nats:.6g} nats, "
            f"got {result.bits_per_dim:.6g}"
        )


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; train the experiment first") from error
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected YAML, got {error}") from error
    if not isinstance(config, dict) or "event" not in config:
        raise UserError(f"{path}: expected a mapping with an event")
    return config


def with_error(value: float, stderr: float, sign: str = "") -> str:
    """Print a value and its standard error; "<=" marks a bound, "~" an estimate.

    Example:
        >>> with_error(88.4567, 0.2134), with_error(1.23456, 0.0042, "<=")
        ('88.46 ± 0.21', '<= 1.2346 ± 0.0042')
    """
    digits = 2
    if 0 < stderr < 0.1:
        digits = min(4, 1 - math.floor(math.log10(stderr)))
    return f"{sign} {value:.{digits}f} ± {stderr:.{digits}f}".lstrip()


SIGNS = {"exact": "", "upper_bound": "<=", "approx": "~", "below": "<", "above": ">"}
