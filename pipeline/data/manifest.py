"""The manifest of a dataset's shards: `manifest.json`, its fields and their checks."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError

from arcore import events
from arcore.columns import Column
from arcore.events import Event, Table, is_table
from pipeline.core import storage
from pipeline.core.errors import SiteError
from pipeline.core.records import adapter, parse_object, write_object
from pipeline.core.redaction import redacted
from pipeline.datasets.base import SPLITS, Dataset, Sound, Unit
from pipeline.datasets.options import expected, wanted_by
from pipeline.datasets.read_transforms import ReadTransform, num_bins

MANIFEST = "manifest.json"
FORMAT = 2
OWN = "manifest_sha256"
AGAIN = "run python -m stages.preprocess again"
# Fields that a manifest has only where they say something.
_OPTIONAL = ("context_frames", "condition_sequence", "condition_size", "condition_shape", "sound")
_OF_DATASET = (
    "event", "num_classes", "unit", "published_name", "provenance", "columns", *_OPTIONAL,
)  # fmt: skip

Count = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
SplitName = Annotated[str, Field(pattern="^[a-z0-9_]+$")]
# So that no shard is outside the folder; more digits where 99,999 are too few.
_PLAIN_NAME = re.compile(r"[a-z0-9_]+-\d{5,}-of-\d{5,}\.parquet", re.ASCII)
ShardName = Annotated[str, expected("a plain file name", _PLAIN_NAME.fullmatch)]


def _parse_event(described: Mapping[str, object]) -> Event:
    try:
        return events.from_dict(described)
    except (TypeError, OverflowError, MemoryError) as error:
        raise ValueError(str(error)) from None


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its plain name, its rows and the SHA-256 of its bytes."""

    file: ShardName
    rows: Count
    sha256: Sha256


@dataclass(frozen=True)
class SplitInfo:
    """One split in the manifest.

    Arguments:
        sha256: of its content (rows' bytes, labels' bytes), however it is cut into shards.
        read_transform: how rows become events when read, "bernoulli" from gray levels to bits,
            "dequantize" from levels to reals or "moving" from digits to clips; None where they are
            stored as they are. The file calls it `binarize`, which came first.
        shards: in row order.
        row_shape: of a stored row, where that is not the event's.
    """

    rows: Count
    sha256: Sha256
    read_transform: Annotated[ReadTransform | None, Field(alias="binarize")]
    shards: tuple[Shard, ...]
    row_shape: tuple[Count, ...] | None = None


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds; fields as in `pipeline.datasets.base.Dataset`.

    Arguments:
        splits: train, valid and test, then further tests.
        sha256: of the whole content and its meaning (event, classes, draws, frames given, ...).
        columns: names of a row's numbers, in order, where the file has names; not hashed.
    """

    dataset: str
    event: Annotated[Event, PlainValidator(_parse_event), PlainSerializer(events.to_dict)]
    num_classes: Count | None
    unit: Unit
    published_name: str | None
    provenance: str
    options: dict[str, object]
    splits: dict[SplitName, SplitInfo]
    sha256: Sha256
    context_frames: Annotated[int, Field(ge=0)] = 0
    condition_sequence: tuple[Count, Count] | None = None
    condition_size: Count | None = None
    condition_shape: tuple[Count, Count, Count] | None = None
    sound: Sound | None = None
    columns: tuple[str, ...] = ()

    @property
    def table(self) -> Table | None:
        """The columns of a row by name: the event's own, or a table file's; None without names."""
        if is_table(self.event) or not self.columns:
            return self.event if is_table(self.event) else None
        levels = self.options.get("levels")
        known = levels if isinstance(levels, dict) else {}
        return Table([Column(name=name, levels=known.get(name)) for name in self.columns])

    @property
    def has_holes(self) -> bool:
        """Whether cells of a table may be missing, NaN."""
        return self.options.get("missing") == "keep"

    @property
    def extra_test_splits(self) -> tuple[str, ...]:
        """Names of test splits beyond `test`."""
        return tuple(sorted(set(self.splits) - set(SPLITS)))

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


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check `manifest.json` of a folder, or of a URI as in `pipeline.core.storage`."""
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
    if plain.get("format") != FORMAT:
        got = plain.get("format")
        raise SiteError(f"{path}: expected a manifest of format {FORMAT}, got {got!r}; {AGAIN}")
    try:
        manifest = _parse_manifest(plain)
    except ValueError as error:
        flaw = _flaw(error) if isinstance(error, ValidationError) else error
        raise SiteError(f"{path}: malformed manifest: {flaw}") from None
    if plain.get(OWN) != _own_sha256(plain):
        raise SiteError(f"{path}: {OWN}: expected that of the other fields; {AGAIN}")
    return manifest


def write_manifest(dataset: Dataset, splits: Mapping[str, SplitInfo], folder: Path) -> None:
    """Write `manifest.json` for shards that have been written."""
    alike: dict[str, Any] = {name: getattr(dataset, name) for name in _OF_DATASET}
    options = asdict(dataset.options)
    manifest = Manifest(dataset.name, options=options, splits=dict(splits), sha256="", **alike)
    plain: dict[str, object] = {"format": FORMAT, **_plain(manifest)}
    plain["sha256"] = _dataset_sha256(manifest)
    plain[OWN] = _own_sha256(plain)
    write_object(folder / MANIFEST, plain)


def _plain(manifest: Manifest) -> dict[str, Any]:
    """Return the fields of a manifest that say something, as plain data."""
    plain = adapter(Manifest).dump_python(manifest, by_alias=True, exclude_defaults=True)
    return cast("dict[str, Any]", plain)


def _own_sha256(plain: Mapping[str, object]) -> str:
    """Hash all that a manifest says, but this hash."""
    described = {key: value for key, value in plain.items() if key != OWN}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _dataset_sha256(manifest: Manifest) -> str:
    splits, plain = manifest.splits, _plain(manifest)
    infos = [(split, splits[split]) for split in [*SPLITS, *manifest.extra_test_splits]]
    parts = [
        [split, info.sha256, info.read_transform, *([info.row_shape] if info.row_shape else [])]
        for split, info in infos
    ]
    meaning: list[object] = [plain["event"], manifest.num_classes, parts]
    unnamed = ("context_frames", "sound")  # whose values alone are hashed
    for name in (name for name in _OPTIONAL if name in plain):
        meaning.append(plain[name] if name in unnamed else {name: plain[name]})
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _parse_manifest(plain: Mapping[str, object]) -> Manifest:
    """Turn the JSON into a Manifest; ValueError for what is wrong."""
    manifest: Manifest = adapter(Manifest).validate_json(json.dumps(plain), strict=True)
    splits, event = manifest.splits, manifest.event
    if not set(SPLITS) <= set(splits):
        raise ValueError(f"field splits: expected the splits {', '.join(SPLITS)}")
    for name, info in splits.items():
        _check_split(name, info, event)
    if manifest.context_frames:
        events.after_frames(event, manifest.context_frames)
    sequence = manifest.condition_sequence
    if sequence is not None and sequence[0] != event.shape[0]:
        raise ValueError("field condition_sequence: expected the event's frames, and a length")
    if manifest.sha256 != _dataset_sha256(manifest):
        raise ValueError("field sha256: it does not match event, classes and splits")
    if (None in event.shape) != (manifest.sound is not None):
        raise ValueError("field sound: expected for events of open length, and no others")
    return manifest


def _check_split(name: str, info: SplitInfo, event: Event) -> None:
    if info.rows != sum(shard.rows for shard in info.shards):
        raise ValueError(f"split {name}: expected shards of {info.rows} rows altogether")
    if not all(shard.file.startswith(f"{name}-") for shard in info.shards):
        raise ValueError(f"split {name}: expected a plain file name such as {name}-00000-of-00001")
    if info.read_transform == "dequantize":
        num_bins(event)


def _flaw(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    *_, name = ("manifest", *first["loc"])
    if first["type"] == "missing":
        return f"no field {name!r}"
    where = ".".join(map(str, first["loc"]))
    return f"field {where}: expected {wanted_by(error)}, got {first['input']!r:.80}"
