"""The one form of error for a bad argument."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest


def refuses(call: Callable[[], object], parts: list[str]) -> None:
    """Check that the error is one ValueError that names argument, expectation and what came."""
    with pytest.raises(ValueError, match="^" + re.escape(parts[0])) as caught:
        call()
    assert all(part in str(caught.value) for part in parts), str(caught.value)
