"""The forms of error for bad arguments and bad input."""

import contextlib
import re
from collections.abc import Callable, Iterator

import pytest

from pipeline.core.errors import UserError


def refuses(call: Callable[[], object], parts: list[str]) -> None:
    """Check that the error is one ValueError that names argument, expectation and what came."""
    with pytest.raises(ValueError, match="^" + re.escape(parts[0])) as caught:
        call()
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@contextlib.contextmanager
def refused(message: str) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Check that the block raises a UserError of one line that matches."""
    with pytest.raises(UserError, match=message) as caught:
        yield caught
    assert "\n" not in str(caught.value)
