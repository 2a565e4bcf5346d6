"""Decoding on workers of Ray: the bytes of one process."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster.distributed_decoding import DecodingWork, decoding_on_workers
from pipeline.core.errors import UserError
from pipeline.data import preprocessing
from pipeline.datasets import catalog
from pipeline.experiments.schema import ClusterConfig
from tests.support.own_files import packed_pictures, write_image_parquet, write_picture

pytestmark = [pytest.mark.usefixtures("workdir"), pytest.mark.timeout(180)]
TWO = ClusterConfig(num_workers=2, cpus_per_worker=1)


def shards(**options: Any) -> dict[str, str]:
    dataset = catalog.get_dataset({"name": "mine", **options})
    folder = preprocessing.write(dataset, dataset.decode(Path()), Path("shards"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_worker_of_other_code_than_the_drivers_is_refused() -> None:
    DecodingWork("mine", None).prepare(1)
    with pytest.raises(UserError, match="expected the code of the driver .bbbbbbbbbbbb., got oth"):
        DecodingWork("mine", "b" * 64).prepare(1)


@pytest.mark.own_process
def test_workers_decode_the_bytes_of_one_process(own_ray: None) -> None:
    for n in range(20):
        write_picture(Path(f"photos/{n:02d}.png"), 8 + n, 16, seed=n)
    write_image_parquet(Path("a.parquet"), list(packed_pictures(30)), [0, 1] * 15)
    folder: dict[str, Any] = {
        "kind": "image_folder", "path": "photos", "height": 4, "width": 4, "fit": "crop",
    }  # fmt: skip
    packed = {"kind": "image_shards", "path": "a.parquet", "label": "label", "num_classes": 2}
    alone = [shards(**folder), shards(**packed)]
    with decoding_on_workers(TWO, "mine"):
        assert [shards(**folder), shards(**packed)] == alone
        Path("photos/07.png").write_bytes(Path("photos/07.png").read_bytes()[:99])
        with pytest.raises(UserError, match="photos/07.png: expected a PNG, JPEG") as error:
            shards(**folder)
        assert "\n" not in str(error.value)
    with decoding_on_workers(ClusterConfig(), "mine"):
        assert shards(**packed) == alone[1], "without workers there is no Ray"
