"""A dataset whose rows a test makes up."""

from dataclasses import dataclass
from pathlib import Path

from arcore.events import Event
from pipeline.datasets.base import Dataset, SplitData
from pipeline.datasets.options import Options


@dataclass(frozen=True, kw_only=True)
class Toy(Dataset):
    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        raise NotImplementedError


def toy_dataset(event: Event, num_classes: int | None = None, rows_per_shard: int = 3000) -> Toy:
    return Toy(
        name="toy",
        family="toy",
        event=event,
        unit="nats",
        files=(),
        provenance="made up",
        options=Options(rows_per_shard=rows_per_shard),
        num_classes=num_classes,
    )
