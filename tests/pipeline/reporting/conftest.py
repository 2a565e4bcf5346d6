"""Measured files for reports to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.measured_files import MeasuredFiles


@pytest.fixture
def files(home: Path) -> MeasuredFiles:
    """A function object that writes measured files into an empty working directory."""
    return MeasuredFiles()
