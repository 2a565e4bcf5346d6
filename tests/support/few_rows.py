"""Projects with models that were trained, in this process, on the first rows of real datasets."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.data import preprocessing
from pipeline.datasets import catalog
from pipeline.datasets.base import SplitData
from pipeline.experiments import compose
from pipeline.training import driver


def train_on_few(
    folder: Path, migrated: Path, experiments: dict[str, dict[str, Any]], count: int
) -> None:
    """Train experiments in a folder on the first rows of each split of their datasets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        shutil.copy(migrated, "mlflow.db")
        Path("params.yaml").write_text(yaml.safe_dump({"experiments": experiments}))
        for name in dict.fromkeys(entry["dataset"] for entry in experiments.values()):
            dataset = catalog.get_dataset({"name": name})
            few = {
                split: SplitData(
                    data.x[:count],
                    None if data.labels is None else data.labels[:count],
                    data.read_transform,
                )
                for split, data in dataset.decode(folder).items()
            }
            preprocessing.write(dataset, few, folder / "data/shards" / name)
        for name in experiments:
            driver.train(compose.load(name))
