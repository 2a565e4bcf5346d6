"""What the recorded searches found, and what networks see in a search over dilations."""

from __future__ import annotations

import math
from pathlib import Path

import torch

import arcore
from pipeline.core.errors import UserError, one_line
from pipeline.core.records import read_object
from pipeline.reporting import search_tables, wording
from pipeline.reporting.search_tables import Table, TrialGroup


def outcomes(results: Path) -> Table:
    """Return a row for each recorded search: what it varied, and what it found.

    Validation nats of the entry itself and of the best trial, what this one had, and the share of
    each parameter by itself in the variance of the trials.

    Raises:
        UserError: naming the file that is missing or malformed.
    """
    rows = []
    for path in sorted((results / "searches").glob(f"[!.]*/{search_tables.RECORD}")):
        record, name = read_object(path), path.parent.name
        try:
            best = int(str(record["best_trial"]))
            _, found = search_tables.shares(path.parent, best)
            had = [row[:2] for row in found] or _settings(path.parent, best)
            cells = [
                f"[{name}](searches/{name})",
                str(record["trials"]),
                *(_nats(record[key]) for key in ("default_valid_nats", search_tables.NATS)),
                ", ".join(f"{parameter} {value}" for parameter, value in had),
                ", ".join(f"{parameter} {share}" for parameter, _, share, *_ in found),
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: expected the record of a search, got {error}") from None
        rows.append(cells)
    header = ["search", "trials", "entry", "best", "which had", "share of the variance by itself"]
    return header, rows


def _settings(folder: Path, number: int) -> list[list[str]]:
    values = search_tables.trial(folder, number)
    return [
        [search_tables.title(name), search_tables.setting(values[name])]
        for name in values
        if "." in name
    ]


def _nats(value: object) -> str:
    """Print nats; nothing of the entry itself where no trial was it, or it has none."""
    return "" if value is None else wording.rounded(float(str(value)), 2)


def dilations(path: Path, samples: int) -> Table:
    """Return the trials of a search over the dilations of a WaveNet, and what each network sees.

    Arguments:
        path: of its trials.csv.
        samples: of a sound, in the mean.

    Raises:
        UserError: naming the file, if it is malformed or of another search.
    """
    header, rows = search_tables.trials(path)
    groups = search_tables.groups(path)
    at = len(groups[0].settings)
    header[at:at] = ["receptive field"]
    for row, group in zip(rows, groups, strict=True):
        row[at:at] = [str(_receptive_field(group, path))]
        row.append(wording.rounded(group.mean / math.log(2) / samples, 3))
    return [*header, "bits a sample"], rows


def _receptive_field(group: TrialGroup, path: Path) -> int | None:
    try:
        given = {name: int(group.settings[f"model.{name}"]) for name in ("num_blocks", "cycle")}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: expected num_blocks and cycle, got {one_line(error)}") from None
    with torch.device("meta"):
        model = arcore.create_model("wavenet", arcore.events.Levels(2, (None,)), **given)
    return model.receptive_field
