"""The entries of params.yaml, for a command line that names none."""

from __future__ import annotations

import shutil
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import UserError, require
from pipeline.experiments import params_file

WIDTH = 120


def text_of(section: str) -> str:
    """Return the names of a section of params.yaml, by dataset, at most 120 columns wide.

    Arguments:
        section: experiments, mixtures, searches, folds or studies.

    Raises:
        UserError: if params.yaml is missing or not valid, or has no such entry.
    """
    entries = params_file.read_params().get(section) or {}
    require(isinstance(entries, dict), section, "a mapping", entries)
    if not entries:
        raise UserError(f"params.yaml: expected an entry of {section}, found none")
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    lines = [f"{section} of params.yaml, by dataset:"]
    for dataset, names in _by_dataset(entries).items():
        lines += [f"\n{dataset}", *_columns(names, width)]
    return "\n".join(lines)


def _by_dataset(entries: Mapping[str, Any]) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, entry in entries.items():
        dataset = entry.get("dataset") if isinstance(entry, dict) else None
        found[str(dataset)].append(str(name))
    return found


def _columns(names: list[str], width: int) -> list[str]:
    return textwrap.wrap(
        "  ".join(names),
        width,
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
