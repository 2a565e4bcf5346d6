"""Memory that a tuned process frees stays its own."""

import subprocess
import sys

import pytest

from tests.places import ROOT

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
