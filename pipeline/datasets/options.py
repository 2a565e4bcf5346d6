"""Options of datasets: dataclasses whose fields declare which values fit, checked by pydantic."""

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from pipeline.core.errors import require, unknown_name

PLACES = ("path", "folder")  # options that say where files are
# Options that decide neither rows nor their order: where files are, what is refused.
NOT_HASHED = {*PLACES, "any_rendering"}
NOT_AFFECTING_ROWS = {*NOT_HASHED, "rows_per_shard"}


def expected(words: str, fits: Callable[[Any], bool]) -> AfterValidator:
    """Declare which values of an option fit, and the words of the error for others."""

    def check(value: object) -> object:
        if not fits(value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


def between(low: int, high: int) -> AfterValidator:
    """Declare the range of an option's value, both ends included."""
    return expected(f"{low} to {high}", lambda value: low <= value <= high)


AtLeastOne = Annotated[int, expected("an integer >= 1", lambda value: value >= 1)]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that every dataset has; a dataset adds its own in a subclass.

    Arguments:
        rows_per_shard: rows of a Parquet shard, the last one excepted.
    """

    rows_per_shard: AtLeastOne = 16384


OptionsT = TypeVar("OptionsT", bound=Options)


def parse_options(cls: type[OptionsT], dataset: str, settings: Mapping[str, object]) -> OptionsT:
    """Build a dataset's options from plain values; the keys `name` and `kind` are passed over."""
    hints = typing.get_type_hints(cls, include_extras=True)
    values = {key: settings[key] for key in settings if key not in ("name", "kind")}
    for key, value in values.items():
        if key not in hints:
            raise unknown_name(f"{dataset} option", key, hints)
        try:
            values[key] = TypeAdapter(hints[key]).validate_python(value, strict=True)
        except ValidationError as error:
            refuse_unless(False, dataset, key, wanted_by(error), value)
    make: Callable[..., OptionsT] = cls
    return make(**values)


def wanted_by(error: ValidationError) -> str:
    """Return what pydantic expected of a value, without its own words around it."""
    words = error.errors()[0]["msg"]
    return words.removeprefix("Value error, ").removeprefix("Input should be ")


def refuse_unless(holds: bool, dataset: str, option: str, wanted: str, got: object) -> None:
    """Refuse the value of an option unless it holds."""
    require(holds, f"option {option} of dataset {dataset!r}", wanted, got)
