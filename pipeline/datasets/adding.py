"""Describing data of the user's own: options from the files themselves, written as a conf file."""

import dataclasses
import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from arcore.events import Levels, is_real
from pipeline.core import atomic, paths
from pipeline.core.errors import UserError, require, require_no_pipe
from pipeline.core.yaml_settings import dump_yaml
from pipeline.datasets import catalog
from pipeline.datasets.base import Dataset, SplitData, SplitStream
from pipeline.datasets.user import image_shards
from pipeline.datasets.user.user_data import (
    Fact,
    UserDataset,
    UserOptions,
    listed,
    option_values,
    readable_bytes,
    rows_of_a_part,
)

_GAP = "  "
_ARRANGED = {
    "gray": "rows of two axes are taken as images of one channel; layout=as_is keeps them",
    "channels_last": "the last axis of a row is taken as its channels",
}
KINDS = {
    "image_folder": "a folder of images",
    "image_shards": "images in Parquet files or tars",
    "clip_folder": "a folder of clips",
    "arrays": "arrays",
    "csv": "a table",
    "wav_folder": "a folder of sounds",
    "text": "text",
}


def add(
    kind: str, name: str, path: str, overrides: Sequence[str], replace: bool = False
) -> tuple[Dataset, list[Fact]]:
    """Write `local/dataset/<name>.yaml` for data of the user's own; look at some rows.

    Returns the dataset, and what was found. `overrides`, `option=value`, go before
    what the files suggest; the kind image_folder stands for image_shards too.
    """
    catalog.check_user_name(name, kind)
    require(path.isprintable(), "path", "letters that can be printed", path)
    require_no_pipe(paths.root() / path)
    target = catalog.conf_file(name)
    if target.exists() and not replace:
        raise UserError(f"{target}: there already; give another name, or --replace")
    parsed = catalog.parse_overrides(name, overrides)
    given = {key: "" if value is None else value for key, value in parsed.items()}
    require(
        "path" not in given, "override 'path'", f"none together with {path!r}", given.get("path")
    )
    if kind == "image_folder" and image_shards.is_packed(path):
        kind = "image_shards"
    guessed = catalog.module_of_kind(kind).guess(name, path, given)
    for key, value in given.items():  # of some columns: those of others are guessed
        if isinstance(value, Mapping):
            given[key] = {**guessed.get(key, {}), **value}
    settings = {"name": name, "kind": kind, "path": path, **guessed, **given}
    dataset = catalog.get_dataset(settings)
    if "rows_per_shard" not in given:  # a shard is held in memory
        rows = rows_of_a_part(dataset.options.rows_per_shard, _row_bytes(dataset))
        options = dataclasses.replace(dataset.options, rows_per_shard=rows)
        dataset = dataclasses.replace(dataset, options=options)
    found = _facts(dataset)
    if settings.get("layout") in _ARRANGED:
        found.append(Fact("", _ARRANGED[str(settings["layout"])]))
    whole = {"name": name, "kind": kind, "path": path} | dataclasses.asdict(dataset.options)
    text = dump_yaml(whole)
    atomic.write_text(target, text)
    return dataset, found


def summary(dataset: Dataset, kind: str, facts: Sequence[Fact], width: int) -> str:
    """Lay out what was found in three columns: what it is about, in words, and what changes it.

    Example:
        >>> print(summary_table([Fact("rows", "8 train, 1 valid", "split_seed=0")], 48))
                found                       options as set
          rows  8 train, 1 valid            split_seed=0
    """
    path = dataset.options.path if isinstance(dataset.options, UserOptions) else ""
    return f"{dataset.name}: {path} is taken for {KINDS[kind]}\n{summary_table(facts, width)}"


def summary_table(facts: Sequence[Fact], width: int) -> str:
    """Lay facts out in columns, at most `width` wide; see `summary`."""
    rows = [Fact(" ", "found", "options as set"), *(fact for fact in facts if fact.name)]
    first = max(len(fact.name) for fact in rows)
    last = min(max(len(fact.change) for fact in rows), width // 3)
    middle = width - first - last - 2 * len(_GAP)
    lines = []
    for fact in rows:
        wrap = partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)
        cells = [fact.name], wrap(fact.found, middle), wrap(fact.change, last)
        for name, found, change in itertools.zip_longest(*cells, fillvalue=""):
            lines.append(f"{_GAP}{name:<{first}}{_GAP}{found:<{middle}}{_GAP}{change}".rstrip())
    return "\n".join([*lines, *(f"{_GAP}{fact.found}" for fact in facts if not fact.name)])


def training_rows(dataset: Dataset) -> int:
    """Count the training rows of a dataset of the user's own."""
    assert isinstance(dataset, UserDataset) and isinstance(dataset.options, UserOptions)
    train = dataset.decode((paths.root() / dataset.options.path).parent)["train"]
    return len(train) if isinstance(train, SplitData) else train.rows


def _facts(dataset: Dataset) -> list[Fact]:
    """Decode the first rows of each split, and say what the dataset is."""
    assert isinstance(dataset, UserDataset) and isinstance(dataset.options, UserOptions)
    splits = dataset.decode((paths.root() / dataset.options.path).parent)
    first, rows = dict[str, SplitData](), dict[str, int]()
    for split, data in splits.items():
        stream = SplitStream(len(data), [data]) if isinstance(data, SplitData) else data
        first[split], rows[split] = next(iter(stream.parts)), stream.rows
    counts = ", ".join(f"{count:,} {split}" for split, count in rows.items())
    if any(len(data) < rows[split] for split, data in first.items()):
        counts += f"; the first {', '.join(str(len(data)) for data in first.values())} were read"
    found = [
        Fact("rows", counts, option_values(dataset.options, *dataset.split_options)),
        Fact("event", repr(dataset.event), _event_options(dataset.options)),
    ]
    found += dataset.facts()
    if dataset.num_classes and "classes" not in {fact.name for fact in found}:
        found.append(Fact("classes", str(dataset.num_classes)))
    if dataset.condition_size or dataset.condition_shape:
        shape = dataset.condition_shape or (dataset.condition_size,)
        found.append(Fact("conditions", f"of shape {shape}"))
    stored = readable_bytes(sum(rows.values()) * _row_bytes(dataset))
    found.append(Fact("stored as", f"{stored} of rows, before compression"))
    if is_real(dataset.event) and not dataset.columns:
        found += _beware(first["train"].x)
    return found + [Fact("", note) for note in dataset.notes()]


def _event_options(options: UserOptions) -> str:
    """Return the option of the levels, where it is one number."""
    levels = getattr(options, "num_levels", None)
    return option_values(options, "num_levels") if isinstance(levels, int) else ""


def _beware(x: np.ndarray) -> list[Fact]:
    """Say in which places of a row of reals fewer than one value in ten rows is new."""
    different = 1 + (np.diff(np.sort(x, 0), axis=0) != 0).sum(0)
    places = [tuple(map(int, place)) for place in np.argwhere(different < len(x) / 10)]
    if not places:
        return []
    told = (
        f"few different values in {listed(places, 12)}; a density of them has no finite best "
        "likelihood: leave them out, make them conditions, or save them as integers from 0, "
        "which are levels (num_levels=k)"
    )
    return [Fact("beware", told)]


def _row_bytes(dataset: Dataset) -> int:
    """Bytes of a row as shards have it, sounds padded to the longest."""
    if dataset.sound is not None:
        return dataset.sound.max_length + 8 * dataset.sound.label_width
    condition = dataset.condition_shape or (dataset.condition_size or 0,)
    of_each = 1 if isinstance(dataset.event, Levels) else 4
    return dataset.event.size * of_each + 4 * math.prod(condition)
