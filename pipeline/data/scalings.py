"""How the values in a dataset's shards were standardised: `scalings.json` next to them."""

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.core import storage
from pipeline.core.errors import UserError
from pipeline.core.records import parse_object, value_of
from pipeline.core.redaction import redacted
from pipeline.data.manifest import read_manifest
from pipeline.datasets.scaling import Scaling

SCALINGS = "scalings.json"


def write_scalings(scalings: Mapping[str, Scaling], folder: Path) -> None:
    """Write them for the shards of a folder, which has its manifest."""
    plain: dict[str, object] = {"dataset_sha256": read_manifest(folder).sha256}
    plain |= {role: scaling.to_dict() for role, scaling in scalings.items()}
    (folder / SCALINGS).write_text(json.dumps(plain) + "\n", encoding="utf-8")


def read_scalings(folder: str | Path) -> dict[str, Scaling]:
    """Read how `x` and `conditions` were standardised, if they were."""
    manifest, location = read_manifest(folder), storage.join(folder, SCALINGS)
    path = redacted(location)
    try:
        plain = parse_object(storage.read_bytes(location), path)
    except FileNotFoundError:
        again = f"run python -m stages.preprocess {manifest.dataset}"
        raise UserError(f"{path}: file not found: these shards are older; {again}") from None
    of = value_of(plain, "dataset_sha256", str, path)
    if of != manifest.sha256:
        raise UserError(f"{path}: expected that of the shards next to it, got one of others")
    given = manifest.condition_shape or (manifest.condition_size or 0,)
    shapes: dict[str, tuple[int, ...]] = {"conditions": given}
    if not manifest.event.is_open:  # sounds, of any length, are never standardised
        shapes["x"] = manifest.event.extents
    try:
        return {
            role: Scaling.from_dict(value_of(plain, role, dict, path), shape)
            for role, shape in shapes.items()
            if role in plain
        }
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: malformed: {reason}") from None
