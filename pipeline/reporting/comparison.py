"""A dataset's report: our results matched with the published ones.

`pipeline.reporting.numbers` makes a table of it.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arcore.events import Event
from arcore.units import nats_to
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data.manifest import read_manifest
from pipeline.evaluation.reading import (
    Evaluated,
    read_codecs,
    read_results,
)
from pipeline.evaluation.result_records import CodecResult, Result, Score
from pipeline.reporting import wording
from pipeline.reporting.published import PublishedResult, match, published_for
from pipeline.uses import use_records
from pipeline.uses.use_records import UseRecord

Made = tuple[UseRecord, Path]  # what a use measured, and its folder
_FIRST_ALONE = ("excess", "member", "bound", "coded", "valid_nats", "published")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One of our results with its published counterpart, if the experiment names one."""

    evaluated: Evaluated
    num_averaged: int = 1  # above 1, values are the mean over that number of single models
    approximate: bool = False  # whether values are an importance-weighted estimate
    published: PublishedResult | None = None
    published_value: float | None = None  # in the dataset's unit

    @property
    def result(self) -> Result:
        """What was measured."""
        return self.evaluated.result

    @property
    def short_name(self) -> str:
        """The experiment without its dataset's name."""
        return wording.short_name(self.result.experiment, self.result.dataset)

    @property
    def value(self) -> float:
        """The test value in the dataset's unit."""
        return self.result.score.in_unit(self.result.unit, self.evaluated.event)[0]

    @property
    def condition(self) -> str:
        """What the model receives with each row, "" for an unconditional one."""
        return wording.condition(self.evaluated)

    @property
    def difference(self) -> float | None:
        """Ours minus published, in the dataset's unit; negative is better."""
        return None if self.published_value is None else self.value - self.published_value

    @property
    def entropy(self) -> float | None:
        """The least value that is possible, in the dataset's unit; None where it is unknown."""
        excess = self.result.excess
        return None if excess is None else self.in_unit(excess.entropy_nats)

    @property
    def above_entropy(self) -> tuple[float, float] | None:
        """How far the test value is above the entropy, and the standard error."""
        excess = self.result.excess
        if excess is None:
            return None
        above = self.in_unit(excess.excess_nats, difference=True)
        if self.result.unit != "bits_per_dim":
            return above, self.in_unit(excess.excess_nats_stderr, difference=True)
        error = excess.excess_bits_per_dim_stderr
        return None if error is None else (above, error)

    def in_unit(self, nats: float, difference: bool = False) -> float:
        """Convert nats per event, or a difference of them, to the dataset's unit."""
        unit, event, size = self.result.unit, self.evaluated.event, self.result.mean_size
        return nats_to(unit, nats, event, difference=difference, size=size)

    def relation_in(self, unit: str) -> str:
        """Say as in `published_results.yaml` what the value in a unit is to the true one."""
        if self.approximate:
            return "approx"
        bounded = self.result.is_bound_in(unit, self.evaluated.event)
        return "upper_bound" if bounded else "exact"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a dataset's table says."""

    dataset: str
    unit: str
    event: Event
    rows: tuple[Row, ...]
    codecs: tuple[CodecResult, ...]
    # published rows that none of ours is matched with, and their values, best first
    context: tuple[tuple[PublishedResult, float | None], ...]
    uses: tuple[Made, ...] = ()

    @property
    def _tested(self) -> list[Row]:
        return [row for row in self.rows if row.result.split == "test"]

    @property
    def best(self) -> Row:
        """Our best row on the test split, a conditional one only where all are."""
        return next((row for row in self._tested if not row.condition), self._tested[0])

    @property
    def best_conditional(self) -> Row | None:
        """Our best conditional row on the test split."""
        return next((row for row in self._tested if row.condition), None)

    @property
    def best_baseline(self) -> CodecResult | None:
        """The best codec or simple model; the source of the data is neither."""
        found = [codec for codec in self.codecs if codec.kind != "entropy"]
        return min(found, key=self.value_of, default=None)

    @property
    def published(self) -> list[tuple[PublishedResult, float]]:
        """Published results whose values compare with ours, best first."""
        matched = {row.published: row.published_value for row in self.rows if row.published}
        found = [
            (result, value)
            for result, value in [*matched.items(), *self.context]
            if value is not None and result.comparable
        ]
        return sorted(found, key=lambda item: item[1])

    @property
    def units(self) -> list[str]:
        """Units of the test values: the dataset's, then nats and bits/dim."""
        return list(dict.fromkeys((self.unit, "nats", "bits_per_dim")))

    @property
    def measured(self) -> list[Row | CodecResult]:
        """Our rows and codecs as one list, best first."""
        return sorted([*self.rows, *self.codecs], key=self.value_of)

    def value_of(self, row: Row | CodecResult) -> float:
        """Return the test value of a row, or of a codec, in the dataset's unit."""
        if isinstance(row, Row):
            return row.value
        return row.score.in_unit(self.unit, self.event)[0]


def build_report(dataset: str) -> Report:
    """Put a dataset's results next to the published ones.

    Besides its own, an experiment may have a row for one member of an ensemble, the
    importance-weighted estimate of a bound, and each test split beyond `test`.
    """
    read = read_results(dataset)
    manifest = read_manifest(paths.shards(dataset))
    report = compare(dataset, read, manifest.published_name, read_codecs(manifest))
    uses = use_records.read_all(dataset, manifest.sha256)
    return dataclasses.replace(report, uses=tuple(uses))


def compare(
    dataset: str, read: Sequence[Evaluated], published_name: str | None, codecs: list[CodecResult]
) -> Report:
    """Put results next to the published ones."""
    rows = [row for one in read for row in rows_of(one)]
    if len({one.result.unit for one in read}) > 1 or len({one.event for one in read}) > 1:
        raise UserError(f"evaluation/{dataset}: its experiments differ in unit or event")
    if len({one.config.dataset_sha256 for one in read} - {None}) > 1:
        raise UserError(f"{dataset}: its experiments were scored on different versions of the data")
    unit, event = read[0].result.unit, read[0].event
    published = published_for(published_name)
    rows.sort(key=lambda row: (row.value, row.result.experiment))
    if published_name is not None:  # else nothing is published of these data
        rows = [_matched(row, published) for row in rows]
    ours = {row.published for row in rows}
    context = [(row, row.nll(unit, event)) for row in published if row not in ours]
    context.sort(
        key=lambda item: (not item[0].comparable, math.inf if item[1] is None else item[1])
    )
    return Report(
        dataset=dataset,
        unit=unit,
        event=event,
        rows=tuple(rows),
        codecs=tuple(codecs),
        context=tuple(context),
    )


def _matched(row: Row, published: list[PublishedResult]) -> Row:
    result = row.result
    if result.published is None:
        return row
    found = match(published, result.published, f"{result.experiment}: evaluation.published")
    value = found.nll(result.unit, row.evaluated.event)
    return dataclasses.replace(row, published=found, published_value=value)


def rows_of(evaluated: Evaluated) -> Iterator[Row]:
    """Yield the row of an experiment, of its estimate, of a member and of other test splits."""
    result, event, size = evaluated.result, evaluated.event, evaluated.result.mean_size
    estimate, member = result.importance, result.member
    yield Row(evaluated=evaluated)
    if estimate is not None:
        nats = (estimate.nats_importance_weighted, estimate.nats_importance_weighted_stderr)
        known = {"num_rows": estimate.importance_rows, "published": result.published_importance}
        what = f"{estimate.importance_samples:,} importance samples"
        scored = _scored(evaluated, what, Score.from_nats(*nats, event, size), known)
        yield Row(evaluated=scored, approximate=True)
    elif result.published_importance is not None:
        raise UserError(
            f"{result.experiment}: evaluation.published_importance: expected an estimate, which "
            "a model with latents has where evaluation.importance_samples is above 0"
        )
    if result.published_member is not None:
        if member is None:
            raise UserError(
                f"{result.experiment}: evaluation.published_member: expected an ensemble, got "
                f"num_members {result.num_members}"
            )
        score = Score.from_nats(member.member_nats, member.member_nats_stderr, event, size)
        known = {"num_members": 1, "published": result.published_member}
        scored = _scored(evaluated, "a member", score, known)
        yield Row(evaluated=scored, num_averaged=result.num_members)
    for test in result.further_tests:
        known = {name: getattr(test, name) for name in vars(test) if name != "score"}
        yield Row(evaluated=_scored(evaluated, test.split, test.score, known))


def _scored(evaluated: Evaluated, what: str, score: Score, known: dict[str, Any]) -> Evaluated:
    """Return a further score of an experiment, without what was measured of the first alone."""
    result = evaluated.result
    bare: dict[str, Any] = dict.fromkeys(_FIRST_ALONE) | {"further_tests": ()}
    changed = bare | {"experiment": f"{result.experiment} ({what})", "score": score} | known
    return dataclasses.replace(evaluated, result=dataclasses.replace(result, **changed))
