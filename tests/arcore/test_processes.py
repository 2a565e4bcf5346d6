"""Two processes: every model under DistributedDataParallel, and memory that a tuned one keeps."""

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


COUNT = """
import resource
import arcore
def faults():
    bytearray(32 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        bytearray(32 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), arcore.tune_process() or faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_freed_memory_is_not_faulted_in_again() -> None:
    """Eight times 32 MB are 65,536 pages of 4 kB."""
    done = subprocess.run([sys.executable, "-c", COUNT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left, kept = map(int, done.stdout.split())
    assert kept < 100 < left
