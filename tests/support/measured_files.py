"""Files as the earlier stages leave them behind, for reports to read."""

import json
from pathlib import Path
from types import SimpleNamespace

import yaml
from matplotlib.figure import Figure

from arcore import events, units
from pipeline.data.manifest import Shard, SplitInfo, read_manifest, write_manifest
from pipeline.datasets.base import SPLITS
from pipeline.datasets.options import Options
from pipeline.evaluation.result_records import CodecMeasurements, CodecResult, Score

MNIST = events.Binary((1, 28, 28))
DIGITS = events.Levels(17, (1, 8, 8))
TRAINING: dict[str, object] = {
    "experiment": "any",
    "run_id": None,
    "mlflow_experiment": "arcore-any",
    "num_parameters": 10,
    "train_seconds": 3.0,
    "device": "cpu",
    "num_workers": 1,
    "epochs": 3,
    "best_epoch": 3,
    "commit": "abc",
    "epoch_seconds": [1.0, 2.0, 3.0],
}


class MeasuredFiles:
    """Writes below the working directory."""

    def manifest(
        self,
        dataset: str,
        published_name: str | None = None,
        event=MNIST,
        unit: str = "nats",
        columns: tuple[str, ...] = (),
    ) -> None:
        """Write the manifest of shards, and codecs measured on them: none."""
        folder = Path("data", "shards", dataset)
        folder.mkdir(parents=True)
        described = SimpleNamespace(
            name=dataset, event=event, num_classes=None, unit=unit, provenance="a test",
            published_name=published_name, options=Options(), context_frames=0,
            condition_sequence=None, condition_size=None, condition_shape=None, sound=None,
            columns=columns,
        )  # fmt: skip
        shards = {name: Shard(f"{name}-00000-of-00001.parquet", 9, "e" * 64) for name in SPLITS}
        splits = {name: SplitInfo(9, "e" * 64, None, (shard,)) for name, shard in shards.items()}
        write_manifest(described, splits, folder)
        self.codecs(dataset)

    def sha256(self, dataset: str) -> str:
        return read_manifest(Path("data", "shards", dataset)).sha256

    def codecs(self, dataset: str, *codecs, event=MNIST, sha256: str | None = None) -> Path:
        """Write what stage codecs leaves behind, of (label, nats)."""
        measured = CodecMeasurements(
            dataset=dataset,
            dataset_sha256=sha256 or self.sha256(dataset),
            split="test",
            unit="nats",
            libraries={},
            codecs=tuple(
                CodecResult(
                    label=label,
                    settings="level=9",
                    num_rows=10000,
                    bytes=1,
                    score=Score.from_nats(value, 0.4, event),
                )
                for label, value in codecs
            ),
        )
        path = Path("codecs", dataset, "codecs.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measured.to_dict()))
        return path

    def evaluated(
        self,
        dataset: str,
        name: str,
        value: float,
        event: events.Event = MNIST,
        unit: str = "nats",
        model: str = "made",
        counterpart=None,
        **more: object,
    ) -> Path:
        """Write what training and evaluation leave behind; return the path of the metrics."""
        folder = Path("models", name)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "name": name,
            "dataset": {"name": dataset},
            "model": {"name": model},
            "event": events.to_dict(event),
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "training.json").write_text(json.dumps(TRAINING | {"experiment": name}))
        (folder / "history.csv").write_text(
            "epoch,valid_nats,valid_bits_per_dim\n1,9.5,2.0\n2,,\n3,8.5,1.5\n"
        )
        folder = Path("evaluation", dataset, name)
        folder.mkdir(parents=True, exist_ok=True)
        metrics = {
            "experiment": name,
            "dataset": dataset,
            "model": model,
            "num_members": 1,
            "unit": unit,
            "nats": value,
            "nats_stderr": 0.21,
            "bits_per_dim": units.nats_to_bits_per_dim(value, event),
            "bits_per_dim_stderr": units.nats_to_bits_per_dim(0.21, event),
            "num_rows": 10000,
            "exact": True,
            "valid_nats": value + 0.1,
            "num_parameters": 1234567,
            "train_seconds": 754.0,
            "device": "cuda",
            "published": counterpart,
        }
        (folder / "metrics.json").write_text(json.dumps({**metrics, **more}))
        Figure(figsize=(1, 1)).savefig(folder / "samples.png")
        return folder / "metrics.json"
