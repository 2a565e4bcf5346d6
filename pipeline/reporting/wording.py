"""Results in words: units, signs, values with their errors, members, settings."""

import math
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import PurePosixPath

from arcore.events import Event, is_gray, is_levels, is_table
from arcore.models import COMBINATIONS
from arcore.zoo import list_models, model_class
from pipeline.evaluation.reading import Evaluated
from pipeline.evaluation.result_records import Result

UNITS = {
    "nats": "nats",
    "bits_per_dim": "bits/dim",
    "nats_per_frame": "nats/frame",
    "nats_per_dim": "nats/dim",
}
NOISE = 1e-9  # of a value: an error below is that of summing
TOO_LARGE = 1e15  # to have decimals
# what precedes a value, by its relation to the true one
SIGNS = {"exact": "", "upper_bound": "<=", "approx": "~", "below": "<", "above": ">"}

# hyperparameters by which a model takes a condition, and what it is given
CONDITIONS = {
    "num_classes": "class",
    "local_classes": "symbols",
    "local_size": "features",
    "condition_size": "vector",
    "condition_sequence": "vectors",
    "condition_shape": "map",
}


def rounded(value: float, digits: int) -> str:
    """Print a number with a number of decimals, a half to the even one: the rule for every table.

    The half is of the decimal that the record shows, not of its binary neighbour.

    Example:
        >>> rounded(86.155, 2), rounded(90.145, 2), rounded(90.1446, 2)
        ('86.16', '90.14', '90.14')
    """
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= TOO_LARGE:
        return f"{value:.6g}"
    step = Decimal(1).scaleb(-digits)
    near = Decimal(repr(float(value))).quantize(step, ROUND_HALF_EVEN)
    return f"{near if near else abs(near):f}"  # no minus before nought


def with_error(value: float, stderr: float, sign: str = "") -> str:
    """Print a value and its standard error; "<=" marks a bound, "~" an estimate.

    Example:
        >>> with_error(88.4567, 0.2134), with_error(1.23456, 0.0042, "<=")
        ('88.46 ± 0.21', '<= 1.2346 ± 0.0042')
        >>> with_error(177445.6782, 3e-9)  # of rows that all cost the same
        '177445.68 ± 0.00'
    """
    digits = 2
    if 0 < stderr < NOISE * abs(value):
        stderr = 0.0
    if 0 < stderr < 0.1:
        digits = min(4, 1 - math.floor(math.log10(stderr)))
    return f"{sign} {rounded(value, digits)} ± {rounded(stderr, digits)}".lstrip()


def measured(value: float, stderr: float, sign: str = "") -> str:
    """Print a number of a use; an error of 0, of rows all alike, says nothing, and NaN is none.

    Example:
        >>> measured(0.95, math.nan), measured(12.0, 0.0), measured(1.25, 0.1, "~")
        ('0.950', '12.0', '~ 1.25 ± 0.10')
    """
    if stderr > 0:
        return with_error(value, stderr, sign)
    return f"{sign} {rounded(value, 3 if abs(value) < 10 else 1)}".lstrip()


def duration(seconds: float | None) -> str:
    """Print a duration.

    Example:
        >>> duration(41.26), duration(754), duration(4000)
        ('41 s', '12.6 min', '1.1 h')
    """
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def short_name(experiment: str, dataset: str) -> str:
    """Return an experiment's name without its dataset's, where it begins with that.

    Example:
        >>> short_name("digits-made", "digits"), short_name("made", "digits")
        ('made', 'made')
    """
    return experiment.removeprefix(f"{dataset}-") or experiment


def members(result: Result, num_averaged: int = 1) -> str:
    """Say what was scored: one model, an ensemble or a mean, on each fold if there are several."""
    text = "one" if result.num_members == 1 else f"ensemble of {result.num_members}"
    if result.model in COMBINATIONS:
        text = result.model
    if num_averaged > 1:
        text = f"one (mean of {num_averaged})"
    return text if result.num_folds == 1 else f"{text} for each of {result.num_folds} folds"


def rows_scored(rows: int, split_rows: int | None) -> str:
    """Say how much of a split was scored, "" for all of it.

    Example:
        >>> rows_scored(500, 10000), rows_scored(500, 500)
        ('500 of 10,000 rows', '')
    """
    return "" if split_rows is None or rows >= split_rows else f"{rows:,} of {split_rows:,} rows"


def speed(per_second: float) -> str:
    """Print how many there are in a second: two significant digits at least.

    Example:
        >>> speed(1234.5), speed(12.3), speed(9.97), speed(1.44), speed(0.0463)
        ('1,234', '12', '10', '1.4', '0.046')
    """
    exponent = int(f"{per_second:.1e}".partition("e")[2])
    return f"{per_second:,.{max(0, 1 - exponent)}f}"


def settings(evaluated: Evaluated) -> str:
    """List the hyperparameters that differ from the model's defaults, and the search they are of.

    Past steps and evaluations of networks, where the result has them, stand in parentheses.
    """
    result, config = evaluated.result, evaluated.config
    if config.weights:
        shares = sorted(config.weights.items(), key=lambda item: -item[1])
        if result.model == "pool":
            return " * ".join(f"{name}^{weight:.3f}" for name, weight in shares)
        return " + ".join(f"{weight:.3f} {name}" for name, weight in shares)
    if result.model not in list_models():
        return "-"
    defaults = model_class(result.model).Config().to_dict()
    given = {key: value for key, value in config.model.items() if key != "name"}
    changed = [f"{key}={value}" for key, value in given.items() if value != defaults.get(key)]
    if result.receptive_field is not None:
        changed.append(f"(receptive_field={result.receptive_field})")
    if result.num_evaluations is not None:
        changed.append(f"(num_evaluations={result.num_evaluations})")
    base = PurePosixPath(config.base or "")
    if base.parts[:1] == ("searches",):
        changed.append(f"(found by {base.parent})")
    return " ".join(changed).replace("'", "") or "defaults"


def condition(evaluated: Evaluated) -> str:
    """Say what a conditional model is given with its rows, "" for an unconditional one."""
    asked = (word for name, word in CONDITIONS.items() if evaluated.config.asked(name))
    return " and ".join(dict.fromkeys(asked))


def described(event: Event) -> str:
    """Describe what an event consists of.

    Example:
        >>> from arcore.events import Binary, Levels, Real
        >>> described(Binary((1, 28, 28))), described(Levels(256, (None,)))
        ('1 x 28 x 28 bits', 'any number of values of 256 levels')
        >>> described(Levels([2, 5])), described(Real((11,)))
        ('2 values of up to 5 levels', '11 real values')
    """
    if is_table(event):
        return f"{event.size} columns"
    extents = " x ".join("any number of" if size is None else f"{size}" for size in event.shape)
    if not is_levels(event):
        return f"{extents} real values"
    if is_gray(event):
        return f"{extents} gray levels"
    most = "up to " if event.uneven else ""
    kind = "bits" if event.num_levels == 2 else f"values of {most}{event.num_levels} levels"
    return f"{extents} {kind}"
