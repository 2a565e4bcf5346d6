"""Every model under DistributedDataParallel, in two processes: the same loss, the mean gradient."""

import os
import subprocess
import sys

import pytest
import torch.distributed as dist

import arcore
from tests.places import ROOT

SCRIPT = """
import sys
from tests.support.distributed import main
main(int(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_workers_share_the_mean_gradient(tmp_path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(tmp_path / "store")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        told = [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], told
    assert all(out.split() == arcore.list_models() for out, _ in told)
