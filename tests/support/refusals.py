"""The forms of error for bad arguments and bad input."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError


def refuses(call: Callable[[], object], parts: list[str]) -> None:
    """Check that the error is one ValueError that names argument, expectation and what came."""
    with pytest.raises(ValueError, match="^" + re.escape(parts[0])) as caught:
        call()
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def raising(error: BaseException) -> Callable[..., Any]:
    """Return what raises an error, whatever it is called with."""

    def call(*_: object, **__: object) -> None:
        raise error

    return call


@contextlib.contextmanager
def refused(message: str) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Check that the block raises a UserError of one line that matches."""
    with pytest.raises(UserError, match=message) as caught:
        yield caught
    assert "\n" not in str(caught.value)


def killed_in_removing(path: str, target: str | Path) -> None:
    """Stand in for `os.replace`; a kill comes where a folder that is removed has another name."""
    os.rename(path, target)
    if str(target).endswith(".gone"):
        raise SystemExit
