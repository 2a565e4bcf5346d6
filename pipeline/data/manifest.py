"""The manifest of a dataset's shards: `manifest.json`, its fields and their checks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import cast, get_args

from arcore import events, units
from arcore.events import Event
from pipeline.core import storage
from pipeline.core.errors import SiteError, UserError
from pipeline.core.records import parse_object
from pipeline.core.redaction import redacted
from pipeline.datasets.base import SPLITS, Dataset, Sound
from pipeline.datasets.read_transforms import ReadTransform, num_bins

MANIFEST = "manifest.json"
FORMAT = 2
OWN = "manifest_sha256"
SPLIT_NAME = "[a-z0-9_]+"


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its plain name, its rows and the SHA-256 of its bytes."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class SplitInfo:
    """One split in the manifest.

    Arguments:
        rows: number of rows.
        sha256: of its content (rows' bytes, labels' bytes), however it is cut into shards.
        read_transform: how rows become events when read, "bernoulli" from gray levels to bits,
            "dequantize" from levels to reals or "moving" from digits to clips; None where they are
            stored as they are. The file calls it `binarize`, which came first.
        shards: in row order.
        row_shape: of a stored row, where that is not the event's.
    """

    rows: int
    sha256: str
    read_transform: ReadTransform | None
    shards: tuple[Shard, ...]
    row_shape: tuple[int, ...] | None = None

    def to_dict(self) -> dict[str, object]:
        """Return what the manifest's file says of the split."""
        plain: dict[str, object] = {
            "rows": self.rows,
            "sha256": self.sha256,
            "binarize": self.read_transform,
            "shards": [asdict(shard) for shard in self.shards],
        }
        return plain if self.row_shape is None else plain | {"row_shape": self.row_shape}

    @classmethod
    def from_dict(cls, split: str, given: object) -> SplitInfo:
        """Read what `to_dict` wrote, checked; `split` is the split's name."""
        plain = _mapping(given, f"splits.{split}")
        shards = tuple(_parse_shard(split, entry) for entry in _list(plain, "shards"))
        rows = _count(plain, "rows")
        if rows != sum(shard.rows for shard in shards):
            raise ValueError(f"split {split}: expected shards of {rows} rows altogether")
        transform = plain["binarize"]
        if transform not in (None, *get_args(ReadTransform)):
            raise _refused("binarize", "null, bernoulli, dequantize or moving", transform)
        return cls(
            rows=rows,
            sha256=_sha256(plain, "sha256"),
            read_transform=cast("ReadTransform | None", transform),
            shards=shards,
            row_shape=_counts(plain, "row_shape"),
        )


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds; see `read_manifest`.

    Arguments:
        dataset: its name.
        event: what one row is.
        num_classes: number of labels, or None without labels.
        unit: as the field reports it, one of `arcore.units.UNITS`.
        published_name: its name in published_results.yaml, or None.
        provenance: source and protocol, in words.
        options: the dataset's options.
        splits: train, valid and test, then further tests.
        sha256: of the whole content and its meaning (event, classes, draws, frames given, ...).
        context_frames: frames of a clip that the protocol gives.
        condition_sequence: frames, and length of the vector that each comes with, or None.
        condition_size: length of the vector that each row comes with, or None.
        condition_shape: of the map that each row comes with, or None.
        sound: what rows are beyond their event, where they are sounds.
    """

    dataset: str
    event: Event
    num_classes: int | None
    unit: str
    published_name: str | None
    provenance: str
    options: dict[str, object]
    splits: dict[str, SplitInfo]
    sha256: str
    context_frames: int = 0
    condition_sequence: tuple[int, int] | None = None
    condition_size: int | None = None
    condition_shape: tuple[int, int, int] | None = None
    sound: Sound | None = None

    @property
    def extra_test_splits(self) -> tuple[str, ...]:
        """Names of test splits beyond `test`."""
        return _further(self.splits)

    @property
    def conditions(self) -> dict[str, object]:
        """What rows come with, under the names of the hyperparameters that ask for it."""
        if self.sound is not None:
            speakers, symbols = len(self.sound.speakers), len(self.sound.symbols)
            return {"num_classes": speakers or None, "local_classes": symbols or None}
        return {
            "num_classes": self.num_classes,
            "condition_sequence": self.condition_sequence,
            "condition_size": self.condition_size,
            "condition_shape": self.condition_shape,
        }


def require_same(folder: str | Path, manifest: Manifest) -> None:
    """Check that shards are still those of a manifest, after hours in which they were read.

    Raises:
        UserError: if they were made anew of other content.
    """
    now = read_manifest(folder).sha256
    if now != manifest.sha256:
        raise UserError(
            f"{redacted(str(folder))}: expected the shards that this began with "
            f"({manifest.sha256[:12]}), got others ({now[:12]}), made meanwhile; run this again"
        )


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check `manifest.json` of a folder, or of a URI as in `pipeline.core.storage`.

    Raises:
        SiteError: if it is missing or malformed.
    """
    location = storage.join(folder, MANIFEST)
    path = redacted(location)
    try:
        plain = parse_object(storage.read_bytes(location), path)
    except FileNotFoundError:
        name = redacted(str(folder)).rstrip("/").rsplit("/", 1)[-1]
        raise SiteError(
            f"{path}: file not found; run python -m stages.fetch {name} and "
            f"python -m stages.preprocess {name}"
        ) from None
    again = "run python -m stages.preprocess again"
    if plain.get("format") != FORMAT:
        got = plain.get("format")
        raise SiteError(f"{path}: expected a manifest of format {FORMAT}, got {got!r}; {again}")
    try:
        manifest = _parse_manifest(plain)
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise SiteError(f"{path}: malformed manifest: {reason}") from None
    if plain.get(OWN) != _own_sha256(plain):
        raise SiteError(f"{path}: {OWN}: expected that of the other fields; {again}")
    return manifest


def write_manifest(dataset: Dataset, splits: Mapping[str, SplitInfo], folder: Path) -> None:
    """Write `manifest.json` for shards that have been written."""
    plain: dict[str, object] = {
        "format": FORMAT,
        "dataset": dataset.name,
        "event": events.to_dict(dataset.event),
        "num_classes": dataset.num_classes,
        "unit": dataset.unit,
        "published_name": dataset.published_name,
        "provenance": dataset.provenance,
        "options": asdict(dataset.options),
        "splits": {split: info.to_dict() for split, info in splits.items()},
        "sha256": _dataset_sha256(dataset, splits),
    }
    if dataset.context_frames:
        plain["context_frames"] = dataset.context_frames
    if dataset.condition_sequence is not None:
        plain["condition_sequence"] = dataset.condition_sequence
    if dataset.condition_size is not None:
        plain["condition_size"] = dataset.condition_size
    if dataset.condition_shape is not None:
        plain["condition_shape"] = dataset.condition_shape
    if dataset.sound is not None:
        plain["sound"] = asdict(dataset.sound)
    plain[OWN] = _own_sha256(plain)
    text = json.dumps(plain, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _own_sha256(plain: Mapping[str, object]) -> str:
    """Hash all that a manifest says, but this hash."""
    described = {key: value for key, value in plain.items() if key != OWN}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _further(splits: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(sorted(set(splits) - set(SPLITS)))


def _dataset_sha256(kind: Dataset | Manifest, splits: Mapping[str, SplitInfo]) -> str:
    infos = [(split, splits[split]) for split in [*SPLITS, *_further(splits)]]
    parts = [
        [split, info.sha256, info.read_transform, *([info.row_shape] if info.row_shape else [])]
        for split, info in infos
    ]
    meaning = [events.to_dict(kind.event), kind.num_classes, parts]
    if kind.context_frames:
        meaning.append(kind.context_frames)
    if kind.condition_sequence is not None:
        meaning.append({"condition_sequence": kind.condition_sequence})
    if kind.condition_size is not None:
        meaning.append({"condition_size": kind.condition_size})
    if kind.condition_shape is not None:
        meaning.append({"condition_shape": kind.condition_shape})
    if kind.sound is not None:
        meaning.append(asdict(kind.sound))
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _parse_manifest(plain: Mapping[str, object]) -> Manifest:
    """Turn the JSON into a Manifest; KeyError, TypeError or ValueError for what is amiss."""
    event = events.from_dict(_mapping(plain["event"], "event"))
    splits = _mapping(plain["splits"], "splits")
    if not set(SPLITS) <= set(splits):
        raise _refused("splits", f"the splits {', '.join(SPLITS)}", splits)
    names = [*SPLITS, *_further(splits)]
    if not all(re.fullmatch(SPLIT_NAME, name) for name in names):
        raise _refused("splits", "names of small letters, digits and '_'", names)
    parsed = {split: SplitInfo.from_dict(split, splits[split]) for split in names}
    if any(info.read_transform == "dequantize" for info in parsed.values()):
        num_bins(event)
    num_classes = None if plain["num_classes"] is None else _count(plain, "num_classes")
    context = _count(plain, "context_frames") if "context_frames" in plain else 0
    if context:
        events.after_frames(event, context)
    unit = _text(plain, "unit")
    if unit not in units.UNITS:
        raise _refused("unit", f"one of {', '.join(units.UNITS)}", unit)
    published = plain["published_name"]
    manifest = Manifest(
        dataset=_text(plain, "dataset"),
        event=event,
        num_classes=num_classes,
        unit=unit,
        published_name=None if published is None else _text(plain, "published_name"),
        provenance=_text(plain, "provenance"),
        options=dict(_mapping(plain["options"], "options")),
        splits=parsed,
        sha256=_sha256(plain, "sha256"),
        context_frames=context,
        condition_sequence=_parse_sequence(plain, event),
        condition_size=_count(plain, "condition_size") if "condition_size" in plain else None,
        condition_shape=_parse_map(plain),
        sound=_parse_sound(plain.get("sound")),
    )
    if manifest.sha256 != _dataset_sha256(manifest, parsed):
        raise ValueError("field sha256: it does not match event, classes and splits")
    if (None in event.shape) != (manifest.sound is not None):
        raise ValueError("field sound: expected for events of open length, and no others")
    return manifest


def _parse_sequence(plain: Mapping[str, object], event: Event) -> tuple[int, int] | None:
    counts = _counts(plain, "condition_sequence")
    if counts is None:
        return None
    if len(counts) != 2 or counts[0] != event.shape[0]:
        raise ValueError("field condition_sequence: expected the event's frames, and a length")
    return counts[0], counts[1]


def _parse_map(plain: Mapping[str, object]) -> tuple[int, int, int] | None:
    counts = _counts(plain, "condition_shape")
    if counts is None:
        return None
    if len(counts) != 3:
        raise ValueError("field condition_shape: expected channels, height and width")
    return counts[0], counts[1], counts[2]


def _parse_sound(given: object) -> Sound | None:
    if given is None:
        return None
    plain = _mapping(given, "sound")
    unknown = set(plain) - {field.name for field in fields(Sound)}
    if unknown:
        raise ValueError(f"field sound: unexpected {', '.join(sorted(unknown))}")
    counts = ("sample_rate", "max_length", "max_symbols")
    numbers = {name: _whole(plain, name) for name in counts}
    speakers, symbols = (
        tuple(str(name) for name in _list(plain, key)) for key in ("speakers", "symbols")
    )
    return Sound(**numbers, speakers=speakers, symbols=symbols)


def _parse_shard(split: str, given: object) -> Shard:
    plain = _mapping(given, "shards")
    file = plain["file"]
    pattern = rf"{split}-\d{{5,}}-of-\d{{5,}}\.parquet"  # more where 99,999 are too few
    if not isinstance(file, str) or re.fullmatch(pattern, file) is None:
        raise _refused("file", f"a plain file name such as {split}-00000-of-00001.parquet", file)
    return Shard(file, _count(plain, "rows"), _sha256(plain, "sha256"))


# -- fields of plain data, checked


def _refused(name: str, expected: str, got: object) -> ValueError:
    return ValueError(f"field {name}: expected {expected}, got {got!r}")


def _mapping(given: object, name: str) -> Mapping[str, object]:
    if not isinstance(given, dict):
        raise _refused(name, "a mapping", given)
    return given


def _list(plain: Mapping[str, object], name: str) -> list[object]:
    value = plain[name]
    if not isinstance(value, list):
        raise _refused(name, "a list", value)
    return value


def _whole(plain: Mapping[str, object], name: str, least: int = 0) -> int:
    value = plain[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise _refused(name, f"an integer >= {least}", value)
    return value


def _count(plain: Mapping[str, object], name: str) -> int:
    return _whole(plain, name, least=1)


def _text(plain: Mapping[str, object], name: str) -> str:
    value = plain[name]
    if not isinstance(value, str):
        raise _refused(name, "a text", value)
    return value


def _sha256(plain: Mapping[str, object], name: str) -> str:
    value = plain[name]
    if not isinstance(value, str) or re.fullmatch("[0-9a-f]{64}", value) is None:
        raise _refused(name, "64 hexadecimal digits", value)
    return value


def _counts(plain: Mapping[str, object], name: str) -> tuple[int, ...] | None:
    if name not in plain:
        return None
    counts = tuple(c for c in _list(plain, name) if isinstance(c, int) and c >= 1)
    if not counts or counts != tuple(_list(plain, name)):
        raise _refused(name, "a list of integers >= 1", plain[name])
    return counts
