"""Describing data of the user's own: options from the files themselves, written as a conf file."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from arcore.events import Levels, is_table
from pipeline.core import atomic, paths
from pipeline.core.errors import UserError, require, require_no_pipe
from pipeline.core.yaml_settings import dump_yaml
from pipeline.datasets import catalog
from pipeline.datasets.base import Dataset, SplitData, SplitStream
from pipeline.datasets.user import image_shards
from pipeline.datasets.user.user_data import UserDataset, UserOptions, listed, rows_of_a_part

_ARRANGED = {
    "gray": "rows of two axes are taken as images of one channel; layout=as_is keeps them",
    "channels_last": "the last axis of a row is taken as its channels",
}


def add(
    kind: str, name: str, path: str, overrides: Sequence[str], replace: bool = False
) -> tuple[Dataset, list[str]]:
    """Write `pipeline/conf/dataset/<name>.yaml` for data of the user's own; look at some rows.

    Returns the dataset, and lines that say what was found. `overrides`, `option=value`, go before
    what the files suggest; the kind image_folder stands for image_shards too.
    """
    catalog.check_user_name(name, kind)
    require(path.isprintable(), "path", "letters that can be printed", path)
    require_no_pipe(paths.root() / path)
    target = catalog.CONF_FOLDER / f"{name}.yaml"
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
    settings = {"name": name, "kind": kind, "path": path, **guessed, **given}
    dataset = catalog.get_dataset(settings)
    if "rows_per_shard" not in given:  # a shard is held in memory
        rows = rows_of_a_part(dataset.options.rows_per_shard, _row_bytes(dataset))
        options = dataclasses.replace(dataset.options, rows_per_shard=rows)
        dataset = dataclasses.replace(dataset, options=options)
    found = _found(dataset)
    if settings.get("layout") in _ARRANGED:
        found.append(_ARRANGED[str(settings["layout"])])
    whole = {"name": name, "kind": kind, "path": path} | dataclasses.asdict(dataset.options)
    text = dump_yaml(whole)
    atomic.write_text(target, text)
    return dataset, found


def _found(dataset: Dataset) -> list[str]:
    """Decode the first rows of each split, and say what the dataset is."""
    assert isinstance(dataset, UserDataset) and isinstance(dataset.options, UserOptions)
    splits = dataset.decode((paths.root() / dataset.options.path).parent)
    first, lines = dict[str, SplitData](), []
    for split, data in splits.items():
        stream = SplitStream(len(data), [data]) if isinstance(data, SplitData) else data
        first[split] = next(iter(stream.parts))
        lines.append(f"{split}: {stream.rows} rows, {len(first[split])} of them read")
    named = f", columns {listed(dataset.columns, 12)}" if dataset.columns else ""
    lines.append(f"event: {dataset.event!r}{named}")
    if dataset.num_classes:
        lines.append(f"labels: {dataset.num_classes} classes")
    if dataset.condition_size or dataset.condition_shape:
        lines.append(f"conditions: of shape {dataset.condition_shape or (dataset.condition_size,)}")
    if (sound := dataset.sound) is not None:
        seconds = sound.max_length / sound.sample_rate
        lines.append(f"sounds: at {sound.sample_rate} Hz, the longest of {seconds:.1f} s")
        lines.append(f"speakers: {listed(sound.speakers)}; symbols: {listed(sound.symbols)}")
    return (
        lines if isinstance(dataset.event, Levels) else lines + _beware(dataset, first["train"].x)
    )


def _beware(dataset: UserDataset, x: np.ndarray) -> list[str]:
    """Say in which places of a row of reals fewer than one value in ten rows is new."""
    different = 1 + (np.diff(np.sort(x, 0), axis=0) != 0).sum(0)
    if is_table(dataset.event):
        different[[column.count > 0 for column in dataset.event.columns]] = len(x)
    places = [tuple(map(int, place)) for place in np.argwhere(different < len(x) / 10)]
    if not places:
        return []
    names = [dataset.columns[i] if dataset.columns else (i, *rest) for i, *rest in places]
    return [
        f"beware: few different values in {listed(names, 12)}; a density of them has no finite "
        "best likelihood: leave them out, or make them levels or conditions"
    ]


def _row_bytes(dataset: Dataset) -> int:
    """Bytes of a row as shards have it, sounds padded to the longest."""
    if dataset.sound is not None:
        return dataset.sound.max_length + 8 * dataset.sound.label_width
    condition = dataset.condition_shape or (dataset.condition_size or 0,)
    of_each = 1 if isinstance(dataset.event, Levels) else 4
    return dataset.event.size * of_each + 4 * math.prod(condition)
