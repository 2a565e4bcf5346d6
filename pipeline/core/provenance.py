"""The hash of the code that a stage needs."""

from __future__ import annotations

from arcore import zoo
from pipeline.core.stage_code import ANY, stage_sha256


def code_sha256(stage: str, model: str) -> str | None:
    """Hash the code that a stage needs for a model, as `stage_code.stage_sha256` does."""
    return stage_sha256(stage, ANY if model in zoo.COMBINATIONS else model)
