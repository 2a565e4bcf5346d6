"""The numbers that papers report, from `published_results.yaml`."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from arcore.events import Event
from arcore.units import UNITS, nats_to, to_nats
from pipeline.core.errors import UserError, unknown_name
from pipeline.core.records import require_known, validated, value_of
from pipeline.core.yaml_settings import read_yaml
from pipeline.evaluation.result_records import Counterpart
from pipeline.reporting.wording import SIGNS

DEFAULT = Path(__file__).with_name("published_results.yaml")
Text = Annotated[str, Field(min_length=1)]
_NEGATED = {"below": "above", "above": "below"}
# of binarised MNIST: a dataset's values are all of one protocol
PROTOCOLS = {"binarized_mnist": "fixed", "mnist_dynamic_binarized": "dynamic"}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class PublishedResult:
    """One published number; model and variant are unique in a dataset's split."""

    model: Text
    variant: Text
    dataset: Text
    metric: Text  # the unit of `value`, or another quantity
    split: Text
    value: float
    source: Text
    verified: Literal["lecture", "code", "pages", "memory"]  # where; memory prints "unconfirmed"
    protocol: Literal["fixed", "dynamic"] | None = None  # binarised once, or at every access
    # of the true number to the printed one
    relation: Literal["exact", "upper_bound", "approx", "below", "above"] = "exact"
    sense: Literal["nll", "ll"] = "nll"  # of a printed log-likelihood (ll) higher is better
    kind: Literal["published", "author_rerun", "reimplementation"] = "published"
    confidence: Literal["low", "medium"] | None = None
    note: str | None = None  # what a reader must know, e.g. that a likelihood is INVALID
    ci: float | None = None
    speedup: float | None = None

    def __post_init__(self) -> None:
        wanted = PROTOCOLS.get(self.dataset)
        if self.protocol != wanted:
            raise ValueError(f"protocol {wanted or 'null'} for {self.dataset}")
        if self.sense == "ll" and self.relation == "upper_bound":
            raise ValueError(
                "relation: expected no upper_bound for a log-likelihood, whose sign flips"
            )

    @property
    def label(self) -> str:
        """Model and variant.

        Example:
            >>> row = PublishedResult(model="MADE", variant="1hl, 1 mask", dataset="d", value=1.0,
            ...     metric="nats", split="test", source="s", verified="code")
            >>> row.label
            'MADE (1hl, 1 mask)'
        """
        return self.model if self.variant == "-" else f"{self.model} ({self.variant})"

    @property
    def sign(self) -> str:
        """What precedes the negative log-likelihood: nothing, <=, ~, < or >."""
        return SIGNS[self.nll_relation]

    @property
    def nll_relation(self) -> str:
        """How the true number relates to the printed one, both as costs: nats or bits."""
        return _NEGATED.get(self.relation, self.relation) if self.sense == "ll" else self.relation

    @property
    def doubt(self) -> str:
        """What follows the printed number: " (unconfirmed)" where no source was seen."""
        return " (unconfirmed)" if self.verified == "memory" else ""

    @property
    def address(self) -> str:
        """Where the source can be read, or "": of code, a repository before a paper."""
        known = load_addresses()
        named = sorted((name for name in known if name in self.source), key=self.source.find)
        if self.verified == "code":
            named.sort(key=lambda name: "github.com" not in known[name])
        return known[named[0]] if named else ""

    @property
    def status(self) -> str:
        """How far the number can be trusted, in words."""
        words = ["unconfirmed" if self.verified == "memory" else f"confirmed ({self.verified})"]
        if self.protocol:
            words.append(f"{self.protocol} bits")
        if self.confidence:
            words.append(f"{self.confidence} confidence")
        if self.kind != "published":
            words.append(self.kind.replace("_", " "))
        if self.split != "test":
            words.append(f"{self.split} split")
        if self.note:
            words.append(self.note)
        return "; ".join(words)

    @property
    def comparable(self) -> bool:
        """Whether it is a valid likelihood of the test split."""
        return "INVALID" not in (self.note or "") and self.split == "test"

    def nll(self, unit: str, event: Event) -> float | None:
        """Return the number as a negative log-likelihood, lower is better."""
        if self.metric not in UNITS:
            return None
        value = -self.value if self.sense == "ll" else float(self.value)
        if self.metric == unit:
            return value
        return nats_to(unit, to_nats(self.metric, value, event), event)


@functools.cache
def load_published(path: Path = DEFAULT) -> tuple[PublishedResult, ...]:
    """Read and check every row; those with a null value (known to exist, not recalled) are left."""
    found: dict[tuple[str, ...], PublishedResult] = {}
    for number, row in enumerate(value_of(read_yaml(path), "results", list, str(path)), 1):
        where = f"{path}: row {number}"
        result = _read(row, where)
        if result is None:
            continue
        key = (result.dataset, result.model, result.variant, result.metric, result.split)
        if key in found:
            raise UserError(f"{where}: {' / '.join(key)} is given twice")
        found[key] = result
    return tuple(found.values())


def _read(row: object, where: str) -> PublishedResult | None:
    """Read a row; None for one whose value is null."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a mapping, got {row!r}")
    require_known(row, PublishedResult.__dataclass_fields__, where)
    if "value" in row and row["value"] is None:
        return None
    return validated(PublishedResult, row, where)


@functools.cache
def load_addresses() -> dict[str, str]:
    """Read where sources are: addresses by what the sources' texts contain."""
    found = value_of(read_yaml(DEFAULT), "addresses", dict, str(DEFAULT))
    return {str(name): value_of(found, name, str, f"{DEFAULT}: addresses") for name in found}


def published_for(dataset: str | None) -> list[PublishedResult]:
    """Return the rows of a dataset (its name in the file); none for None."""
    return [row for row in load_published() if row.dataset == dataset]


def match(rows: list[PublishedResult], wanted: Counterpart, where: str) -> PublishedResult:
    """Find the row that an experiment names as its counterpart."""
    known = {"model", "variant", "split"}
    if not isinstance(wanted, Mapping) or not {"model"} <= set(wanted) <= known:
        raise UserError(f"{where}: expected {{model, variant, split}} or null, got {wanted!r}")
    model, variant = str(wanted["model"]), str(wanted.get("variant", "-"))
    variants = [row.variant for row in rows if row.model == model]
    if not variants:
        raise unknown_name(f"published model of {where}", model, {row.model for row in rows})
    if variant not in variants:
        raise unknown_name(f"variant of {model} of {where}", variant, variants)
    by_split = {row.split: row for row in rows if (row.model, row.variant) == (model, variant)}
    default = "test" if "test" in by_split or len(by_split) > 1 else next(iter(by_split))
    split = wanted.get("split") or default
    if split not in by_split:
        got = repr(wanted["split"]) if wanted.get("split") else "none"
        raise UserError(f"{where}: split: expected one of {sorted(by_split)}, got {got}")
    return by_split[split]
