"""Memory that a tuned process frees stays its own."""

import subprocess
import sys

import pytest

from tests.places import ROOT

COUNT = """
import resource, sys
import arcore
if sys.argv[1] == "keep":
    arcore.tune_process()
def once():
    return bytearray(32 << 20)
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_freed_memory_is_not_faulted_in_again() -> None:
    """Eight times 32 MB are 65,536 pages of 4 kB."""

    def faults(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", COUNT, how], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert faults("keep") < 100 < faults("leave")
