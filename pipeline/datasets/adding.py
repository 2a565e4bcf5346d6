"""Describing data of the user's own: options from the files themselves, written as a conf file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from arcore.events import Levels
from pipeline.core import atomic, paths
from pipeline.core.errors import UserError, require
from pipeline.core.yaml_settings import dump_yaml
from pipeline.datasets import catalog
from pipeline.datasets.base import Dataset
from pipeline.datasets.decoding_parts import PartsFolder, rows_of_a_part
from pipeline.datasets.formats import array_files, image_files, packed_images, sound_files
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.user import csv_guess, image_folder, image_shards
from pipeline.datasets.user.array_checks import cut_rows, refuse_wide
from pipeline.datasets.user.arrays import arranged, open_array
from pipeline.datasets.user.findings import listed

SMALL = 128  # pixels of a side up to which images are kept as they are
_SPLIT_FOLDERS = {
    "train_folders": ("train", "training"),
    "valid_folders": ("valid", "validation", "val"),
    "test_folders": ("test", "testing"),
}
_PROBED = 200  # headers that are read for a guess
_LABEL_NAMES = ("label", "labels", "class")
_NPZ_NAMES = {"labels": ("labels", "y"), "conditions": ("conditions", "theta")}


def add(
    kind: str, name: str, path: str, overrides: Sequence[str], replace: bool = False
) -> tuple[Dataset, list[str]]:
    """Write `pipeline/conf/dataset/<name>.yaml` for data of the user's own, and check the files.

    Arguments:
        kind: a key of `GUESSES`; image_folder stands for image_shards too.
        name: of the dataset.
        path: the folder or file.
        overrides: `option=value`, which go before what the files suggest.
        replace: whether a conf file of that name may be there already.

    Returns:
        The dataset, and lines that say what was found.

    Raises:
        UserError: for files that are missing or malformed, or a name that is taken.
    """
    catalog.check_user_name(name, kind)
    require(path.isprintable(), "path", "letters that can be printed", path)
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
    guessed = GUESSES[kind](name, path, given)
    config = {"name": name, "kind": kind, "path": path, **guessed, **given}
    dataset = catalog.get_dataset(config)
    if "rows_per_shard" not in given:  # a shard is held in memory
        rows = rows_of_a_part(dataset.options.rows_per_shard, _row_bytes(dataset))
        dataset = catalog.get_dataset(config | {"rows_per_shard": rows})
    found = dataset.examine()
    whole = {"name": name, "kind": kind, "path": path} | asdict(dataset.options)
    text = dump_yaml(whole)
    atomic.write_text(target, text)
    return dataset, found


def _row_bytes(dataset: Dataset) -> int:
    """Bytes of a row as shards have it, sounds padded to the longest."""
    if dataset.sound is not None:
        return dataset.sound.max_length + 8 * dataset.sound.label_width
    condition = dataset.condition_shape or (dataset.condition_size or 0,)
    of_each = 1 if isinstance(dataset.event, Levels) else 4
    return dataset.event.size * of_each + 4 * math.prod(condition)


def _guess_images(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    folder = _folder(path)
    files = image_files.find_images(folder)
    if not files:
        raise UserError(f"{folder}: expected PNG, JPEG or WebP images, found none")
    guessed: dict[str, object] = {}
    below = {child.name.lower(): child.name for child in folder.iterdir() if child.is_dir()}
    for option, names in _SPLIT_FOLDERS.items():
        found = [below[one] for one in names if one in below]
        guessed[option] = [
            name for name in found if any(path.is_relative_to(folder / name) for path in files)
        ]
    guessed = _whole_split(folder, guessed, given)
    if "classes" not in given:
        splits = {option: given.get(option, guessed.get(option)) for option in _SPLIT_FOLDERS}
        lists = {
            option: list(map(str, names))
            for option, names in splits.items()
            if isinstance(names, list)
        }
        guessed["classes"] = image_folder.find_classes(folder, lists)
    return guessed | _guess_frame(files[:: max(1, len(files) // _PROBED)], given)


def _whole_split(
    where: Path, guessed: Mapping[str, object], given: Mapping[str, object]
) -> dict[str, object]:
    """Return what is named as a split, nothing where names tell of one alone or of none.

    Raises:
        UserError: if names tell of some splits, and train and test are not among them.
    """
    found = [option for option in guessed if given.get(option, guessed[option])]
    if len(found) < 2:
        return {}
    train, _, test = guessed
    if train not in found or test not in found:
        raise UserError(
            f"{where}: expected splits named train and test, or none, got {', '.join(found)} by "
            f"their names; say which are {train} and {test}"
        )
    return {option: names for option, names in guessed.items() if names}


def _guess_image_shards(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    files = image_shards.find(name, path)
    folder = paths.root() / path
    guessed = _whole_split(folder, image_shards.guess_patterns(folder, files), given)
    merged = {"image": "image", "label": "", **given}
    if packed_images.is_parquet(files[0]):
        images, integers, classes = packed_images.image_columns(files[0])
        if "image" not in given:
            require(bool(images), str(files[0]), "a column of images (struct with bytes)", images)
            guessed["image"] = merged["image"] = images[0]
        if "label" not in given:
            named = [one for one in integers if one in classes or one in _LABEL_NAMES]
            guessed["label"] = merged["label"] = named[0] if named else ""
    else:
        classes = {}
        if "label" not in given:
            guessed["label"] = merged["label"] = (
                "cls" if packed_images.has_classes(files[0]) else ""
            )
    image, label = str(merged["image"]), str(merged["label"])
    if label and "num_classes" not in given:
        most = -1 if label not in classes else classes[label] - 1
        for file in files if most < 0 else ():
            most = max(most, packed_images.highest_label(file, image, label))
        guessed["num_classes"] = most + 1
        if most < 1 and "label" not in given:  # one class is none
            guessed |= {"label": "", "num_classes": 0}
            label = ""
    probed = next(packed_images.read_batches(files[0], image, label, _PROBED), None)
    if probed is None:
        raise UserError(f"{files[0]}: expected images, found none")
    return guessed | _guess_frame([BytesIO(content) for content in probed.images], given)


def _guess_frame(
    sources: Sequence[image_files.Source], given: Mapping[str, object]
) -> dict[str, object]:
    """Options by the headers of some images: colours, and the size that all have."""
    guessed: dict[str, object] = {}
    sizes, gray = set(), True
    for source in sources:
        try:
            with Image.open(source, formats=image_files.FORMATS) as image:
                sizes.add((image.height, image.width))
                gray = gray and image.mode in image_files.GRAY
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # the check of all files names what is wrong
    guessed["gray"] = gray
    same = next(iter(sizes)) if len(sizes) == 1 else None
    if same and max(same) <= SMALL:
        guessed |= {"height": same[0], "width": same[1]}
    elif "fit" not in given:
        guessed["fit"] = "crop"
    return guessed


def _guess_arrays(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    guessed: dict[str, object] = {}
    if Path(path).suffix == ".npz":
        names = array_files.list_npz(paths.root() / path)
        x = given.get("x", "x")
        if x not in names:
            got = listed(names) or "none"
            raise UserError(f"{path}: expected an array {x!r}, got {got}; name it by x=")
        for role, usual in _NPZ_NAMES.items():
            guessed[role] = next((one for one in usual if one in names), "")
    merged = {"x": "x", "labels": "", "conditions": "", **guessed, **given}
    stat = (paths.root() / path).stat()
    kept = PartsFolder(name, ["guess", path, stat.st_size, stat.st_mtime_ns])

    def opened(role: str) -> np.ndarray:
        return open_array(name, path, role, str(merged[role]), kept)

    try:
        x = opened("x")
        rows_of = "rows of one axis or more, e.g. (N, 1)"
        require(x.ndim > 1, f"{path}: x", rows_of, x.shape)
        if "layout" not in given and (layout := _guess_layout(x, path)) != "as_is":
            guessed["layout"] = layout
        x = arranged(x, str(guessed.get("layout", given.get("layout"))))
        guessed["shape"] = list(x.shape[1:])
        if "num_levels" not in given:
            guessed["num_levels"] = _guess_levels(x, path)
        if merged["labels"]:
            labels = opened("labels")
            require(labels.dtype.kind in "iub", f"{path}: labels", "integers", labels.dtype)
            guessed["num_classes"] = max(1, int(labels.max()) + 1)
        if merged["conditions"]:
            told = opened("conditions")
            require(told.ndim > 1, f"{path}: conditions", rows_of, told.shape)
            shape = told.shape[1:]
            if len(shape) == 3:
                guessed["condition_shape"] = list(shape)
            else:
                guessed["condition_size"] = int(np.prod(shape))
    finally:
        kept.remove()
    return guessed


def _guess_layout(x: np.ndarray, path: str) -> str:
    """Say where the channels of rows are.

    Raises:
        UserError: for rows whose last axis may be channels.
    """
    *_, last = shape = x.shape[1:]
    if len(shape) == 3 and last in (1, 3) and shape[0] not in (1, 3):
        raise UserError(
            f"{path}: x: rows of shape {shape}: do channels come last? give layout=channels_last, "
            f"or layout=as_is for {shape[0]} channels of {shape[1]} x {last}"
        )
    return "gray" if len(shape) == 2 and x.dtype.kind in "iub" else "as_is"


def _are_bits(x: np.ndarray) -> bool:
    """Whether all values are 0 or 1, and both occur."""
    ones = 0
    for rows in cut_rows(np.arange(len(x)), x):
        part = x[rows]
        if not np.isin(part, (0, 1)).all():
            return False
        ones += int(part.sum())
    return 0 < ones < x.size


def _guess_levels(x: np.ndarray, path: str) -> int | list[int]:
    """Numbers of levels of rows of integers; 0 for reals, and integers that are no levels."""
    if x.dtype.kind not in "iub":
        if _are_bits(x):
            raise UserError(
                f"{path}: x: reals that are all 0 or 1: give num_levels=2 for bits, or "
                "num_levels=0 for reals"
            )
        return 0
    refuse_wide(x, path)
    high = int(x.max())
    if x.ndim != 2:
        return 256 if high > 127 else max(2, high + 1)
    counts = [max(2, int(n) + 1) for n in x.max(0)]
    return counts if len(set(counts)) > 1 else counts[0]


def _guess_csv(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    return csv_guess.guess(path, given)


def _guess_sounds(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    import soundfile

    folder = _folder(path)
    files = [p for p in visible_files(folder) if p.suffix.lower() in sound_files.SUFFIXES]
    rates, channels = Counter[int](), 1
    for file in files[:: max(1, len(files) // _PROBED)]:
        try:
            found = soundfile.info(file)
        except (soundfile.SoundFileError, RuntimeError, OSError):
            continue  # the check of all files names what is wrong
        rates[found.samplerate] += 1
        channels = max(channels, found.channels)
    if not rates:
        raise UserError(f"{folder}: expected WAV, FLAC or Ogg files, found none that can be read")
    rate = int(rates.most_common(1)[0][0])
    table = folder / "table.csv"
    return {
        "sample_rate": rate,
        "resample": list(rates) != [given.get("sample_rate", rate)],
        "mix": channels > 1,
        "table": str(Path(path) / table.name) if table.is_file() else "",
    }


def _folder(path: str) -> Path:
    folder = paths.root() / path
    if not folder.is_dir():
        raise UserError(f"{path}: expected an existing folder")
    return folder


Guess = Callable[[str, str, Mapping[str, object]], dict[str, object]]
GUESSES: dict[str, Guess] = {
    "image_folder": _guess_images,
    "image_shards": _guess_image_shards,
    "arrays": _guess_arrays,
    "csv": _guess_csv,
    "wav_folder": _guess_sounds,
}
