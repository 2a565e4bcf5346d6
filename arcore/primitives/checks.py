"""The one form of error for a bad argument."""

import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

LONGEST = 160  # characters of a value in an error


def require(holds: bool, name: str, expected: str, got: object) -> None:
    """Raise the library's one form of error unless `holds`."""
    if not holds:
        text = " ".join(repr(got).split())  # of a tensor it has many lines
        text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
        raise ValueError(f"{name}: expected {expected}, got {text}")


def near(name: object, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" of the known name that is nearest, "" if none is near."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def require_dense(value: object, name: str) -> None:
    """Raise ValueError unless `value` is a tensor whose numbers are here, all of them."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        kind = "one on the meta device" if value.is_meta else str(value.layout)
        raise ValueError(f"{name}: expected a dense tensor of numbers, got {kind}")


def is_integral(x: Tensor) -> bool:
    """Tell whether a tensor has integers, which truth values are none of."""
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def path_of(value: object, name: str, expected: str = "a path") -> Path:
    """Return a path that is given as text or `os.PathLike`, else raise ValueError."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    require(isinstance(text, str), name, expected, value)
    return Path(str(text))


def require_no_pipe(path: Path) -> None:
    """Refuse what is there and no file: a pipe waits for whoever writes to it."""
    try:
        fits = path.is_file() or not path.exists()
    except OSError as error:  # a name that no system has
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    require(fits, str(path), "a file", "another thing")


class WeightsError(ValueError):
    """Weights, finite themselves, with which probabilities are NaN."""


def require_scores(are_numbers: bool) -> None:
    """Raise WeightsError unless what a model computed are numbers."""
    if not are_numbers:
        raise WeightsError(
            "weights: expected those whose probabilities are numbers, got NaN on the way"
        )


def require_int(value: object, name: str, minimum: int) -> None:
    """Raise ValueError unless `value` is an integer (not a bool) >= minimum."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    require(fits, name, f"an integer >= {minimum}", value)


def require_levels(x: Tensor, num_levels: int, name: str) -> None:
    """Raise ValueError unless all of `x`, of any dtype, are integers in [0, num_levels)."""
    levels = x.long()  # 256 is 0 in uint8
    fits = bool(((levels >= 0) & (levels < num_levels) & (levels.to(x.dtype) == x)).all())
    require(fits, name, f"levels in [0, {num_levels})", "others")


def require_sizes(value: object, name: str, *, empty: bool = False) -> None:
    """Raise ValueError unless `value` is a tuple of integers >= 1, empty only if `empty`."""
    fits = isinstance(value, tuple) and (empty or len(value) > 0)
    require(fits, name, f"a {'' if empty else 'non-empty '}list of integers >= 1", value)
    assert isinstance(value, tuple)
    for size in value:
        require_int(size, name, 1)


def require_one_of(value: object, name: str, known: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of the known names."""
    require(value in known, name, f"one of {', '.join(known)}", value)


def require_seed(value: object, name: str) -> None:
    """Raise ValueError unless `value` is an integer in [0, 2^31), from which seeds derive."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31
    require(fits, name, "an integer in [0, 2^31)", value)


def require_odd(value: object, name: str, minimum: int = 1) -> None:
    """Raise ValueError unless `value` is an odd integer >= minimum, as a centred kernel needs."""
    require_int(value, name, minimum)
    assert isinstance(value, int)
    require(value % 2 == 1, name, "an odd integer", value)


def require_positive(value: object, name: str) -> None:
    """Raise ValueError unless `value` is a finite number (not a bool) > 0."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = is_number and 0 < value <= sys.float_info.max  # type: ignore[operator]
    require(fits, name, "a number > 0", value)


def require_dropout(value: object, name: str = "dropout") -> None:
    """Raise ValueError unless `value` is a probability below one."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1
    require(fits, name, "a number in [0, 1)", value)
