"""Two processes: every model under DistributedDataParallel, and memory that a tuned one keeps."""

import subprocess
import sys

import pytest
import torch.distributed as dist

import arcore
from tests.places import ROOT

SCRIPT = """
import os, sys
import torch._dynamo  # as DistributedDataParallel does when it is made
from tests.support.distributed import main

child = os.fork()  # so that two workers import once
main(int(child > 0), sys.argv[1])
if child:
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_workers_share_the_mean_gradient(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "store")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(2 * arcore.list_models())


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
