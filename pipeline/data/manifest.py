"""The manifest of a dataset's shards: `manifest.json`, its fields and their checks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from arcore import events, units
from arcore.events import Event
from pipeline.core import storage
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, Sound
from pipeline.datasets.read_transforms import Drawing, num_bins

MANIFEST = "manifest.json"
FORMAT = 1
Binarize = Drawing | None


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its plain name, its rows and the SHA-256 of its bytes."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class SplitInfo:
    """One split in the manifest.

    Args:
        rows: number of rows.
        sha256: of its content (rows' bytes, labels' bytes), however it is cut into shards.
        binarize: how rows are drawn when read, "bernoulli" from gray levels to bits, "dequantize"
            from levels to reals or "moving" from digits to clips; None where they are stored as
            they are.
        shards: in row order.
        row_shape: of a stored row, where that is not the event's.
    """

    rows: int
    sha256: str
    binarize: Binarize
    shards: tuple[Shard, ...]
    row_shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds; see `read_manifest`.

    Args:
        dataset: its name.
        event: what one row is.
        num_classes: number of labels, or None without labels.
        unit: as the field reports it, one of `arcore.units.UNITS`.
        published_name: its name in published_results.yaml, or None.
        provenance: source and protocol, in words.
        options: the dataset's options.
        splits: train, valid and test.
        sha256: of the whole content and its meaning (event, classes, draws, frames given, ...).
        context_frames: frames of a clip that the protocol gives.
        condition_sequence: frames, and length of the vector that each comes with, or None.
        sound: what rows are beyond their event, where they are sounds.
    """

    dataset: str
    event: Event
    num_classes: int | None
    unit: str
    published_name: str | None
    provenance: str
    options: dict[str, Any]
    splits: dict[str, SplitInfo]
    sha256: str
    context_frames: int = 0
    condition_sequence: tuple[int, int] | None = None
    sound: Sound | None = None

    @property
    def conditions(self) -> dict[str, Any]:
        """What rows come with, under the names of the hyperparameters that ask for it."""
        if self.sound is not None:
            speakers, symbols = len(self.sound.speakers), len(self.sound.symbols)
            return {"num_classes": speakers or None, "local_classes": symbols or None}
        return {
            "num_classes": self.num_classes,
            "condition_sequence": self.condition_sequence,
        }


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check `manifest.json` of a folder, or of a URI as in `pipeline.core.storage`.

    Raises:
        UserError: if it is missing or malformed.
    """
    location = storage.join(folder, MANIFEST)
    path = storage.redacted(location)
    try:
        described = json.loads(storage.read_bytes(location).decode("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; run python -m stages.preprocess first") from None
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        got = described.get("format") if isinstance(described, dict) else described
        raise UserError(f"{path}: expected a manifest of format {FORMAT}, got {got!r}")
    try:
        return _parse_manifest(described)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: malformed manifest: {reason}") from None


def write_manifest(dataset: Dataset, splits: Mapping[str, SplitInfo], folder: Path) -> None:
    """Write `manifest.json` for shards that have been written."""
    described = {
        "format": FORMAT,
        "dataset": dataset.name,
        "event": events.to_dict(dataset.event),
        "num_classes": dataset.num_classes,
        "unit": dataset.unit,
        "published_name": dataset.published_name,
        "provenance": dataset.provenance,
        "options": asdict(dataset.options),
        "splits": {split: _described(info) for split, info in splits.items()},
        "sha256": _dataset_sha256(dataset, splits),
    }
    if dataset.context_frames:
        described["context_frames"] = dataset.context_frames
    if dataset.condition_sequence is not None:
        described["condition_sequence"] = dataset.condition_sequence
    if dataset.sound is not None:
        described["sound"] = asdict(dataset.sound)
    text = json.dumps(described, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _described(info: SplitInfo) -> dict[str, Any]:
    described = asdict(info)
    if info.row_shape is None:
        del described["row_shape"]
    return described


def _dataset_sha256(kind: Dataset | Manifest, splits: Mapping[str, SplitInfo]) -> str:
    infos = [(split, splits[split]) for split in SPLITS]
    parts = [
        [split, info.sha256, info.binarize] + ([info.row_shape] if info.row_shape else [])
        for split, info in infos
    ]
    meaning = [events.to_dict(kind.event), kind.num_classes, parts]
    if kind.context_frames:
        meaning.append(kind.context_frames)
    if kind.condition_sequence is not None:
        meaning.append({"condition_sequence": kind.condition_sequence})
    if kind.sound is not None:
        meaning.append(asdict(kind.sound))
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _field(
    described: Mapping[str, Any], name: str, valid: Callable[[Any], bool], expected: str
) -> Any:
    value = described[name]
    if not valid(value):
        raise ValueError(f"field {name}: expected {expected}, got {value!r}")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _parse_manifest(described: Mapping[str, Any]) -> Manifest:
    """Turn the JSON into a Manifest; KeyError, TypeError or ValueError for what is amiss."""
    event = events.from_dict(described["event"])
    splits = _field(
        described, "splits", lambda v: set(v) == set(SPLITS), f"the splits {', '.join(SPLITS)}"
    )
    parsed = {split: _parse_split(split, splits[split]) for split in SPLITS}
    if any(info.binarize == "dequantize" for info in parsed.values()):
        num_bins(event)
    num_classes = _field(
        described, "num_classes", lambda v: v is None or _is_count(v), "an integer >= 1 or null"
    )
    context = 0
    if "context_frames" in described:
        context = _field(described, "context_frames", _is_count, "an integer >= 1")
        events.after_frames(event, context)
    sequence = _counts(described, "condition_sequence")
    if sequence is not None and (len(sequence) != 2 or sequence[0] != event.shape[0]):
        raise ValueError("field condition_sequence: expected the event's frames, and a length")
    sound = described.get("sound")
    if sound is not None:
        lists = {name: tuple(sound[name]) for name in ("speakers", "symbols")}
        sound = Sound(**{**sound, **lists})
    manifest = Manifest(
        dataset=_field(described, "dataset", _is_text, "a text"),
        event=event,
        num_classes=num_classes,
        unit=_field(
            described, "unit", lambda v: v in units.UNITS, f"one of {', '.join(units.UNITS)}"
        ),
        published_name=_field(
            described, "published_name", lambda v: v is None or _is_text(v), "a text or null"
        ),
        provenance=_field(described, "provenance", _is_text, "a text"),
        options=_field(described, "options", lambda v: isinstance(v, dict), "a mapping"),
        splits=parsed,
        sha256=_field(described, "sha256", _is_sha256, "64 hexadecimal digits"),
        context_frames=context,
        condition_sequence=sequence,
        sound=sound,
    )
    if manifest.sha256 != _dataset_sha256(manifest, parsed):
        raise ValueError("field sha256: it does not match event, classes and splits")
    if (None in event.shape) != (sound is not None):
        raise ValueError("field sound: expected for events of open length, and no others")
    return manifest


def _parse_split(split: str, described: Mapping[str, Any]) -> SplitInfo:
    pattern = re.compile(rf"{split}-\d{{5}}-of-\d{{5}}\.parquet")
    shards = []
    for entry in described["shards"]:
        file = _field(
            entry,
            "file",
            lambda v: isinstance(v, str) and pattern.fullmatch(v) is not None,
            f"a plain file name such as {split}-00000-of-00001.parquet",
        )
        rows = _field(entry, "rows", _is_count, "an integer >= 1")
        shards.append(Shard(file, rows, _field(entry, "sha256", _is_sha256, "64 hex digits")))
    rows = _field(described, "rows", _is_count, "an integer >= 1")
    if rows != sum(shard.rows for shard in shards):
        raise ValueError(f"split {split}: expected shards of {rows} rows altogether")
    return SplitInfo(
        rows=rows,
        sha256=_field(described, "sha256", _is_sha256, "64 hexadecimal digits"),
        binarize=_field(
            described,
            "binarize",
            lambda v: v in (None, *get_args(Drawing)),
            "null, bernoulli, dequantize or moving",
        ),
        shards=tuple(shards),
        row_shape=_counts(described, "row_shape"),
    )


def _counts(described: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    if name not in described:
        return None
    counts = _field(
        described,
        name,
        lambda v: isinstance(v, list) and len(v) > 0 and all(_is_count(n) for n in v),
        "a list of integers >= 1",
    )
    return tuple(counts)
