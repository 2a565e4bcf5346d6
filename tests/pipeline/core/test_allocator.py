"""Memory that a process frees stays its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

COUNT = """
import resource, sys
from pipeline.core.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
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


HEAP = """
from pipeline.core.allocator import keep_freed_memory
keep_freed_memory()
kept = bytearray(64 << 20)
parts = open("/proc/self/smaps").read().split("VmFlags:")
print(*(part.splitlines()[0] for part in parts[1:]))
print(next(int(line.split()[1]) for line in open("/proc/self/status") if "VmRSS" in line))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
def test_huge_pages_are_asked_for_and_only_what_is_used_is_taken() -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("this kernel has no huge pages")
    done = subprocess.run([sys.executable, "-c", HEAP], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    flags, resident = done.stdout.splitlines()
    assert "hg" in flags.split()
    assert int(resident) < 256 << 10  # kB
