"""Memory that a process frees stays its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.allocator import VARIABLES
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
kept = bytearray(32 << 20)
heap = open("/proc/self/smaps").read().split("[heap]")[1]
print(heap.split("VmFlags:")[1].splitlines()[0])
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or platform.libc_ver()[1] < "2.35",
    reason="glibc asks for huge pages from 2.35 on",
)
def test_a_worker_asks_for_huge_pages() -> None:
    enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not enabled.exists() or "[madvise]" not in enabled.read_text(encoding="utf-8"):
        pytest.skip("this kernel does not leave huge pages to who asks for them")
    size = enabled.with_name("hpage_pmd_size")
    if not size.exists() or int(size.read_text(encoding="utf-8")) > 32 << 20:
        pytest.skip("huge pages are larger than this heap")

    done = subprocess.run(
        [sys.executable, "-c", HEAP],
        env=os.environ | VARIABLES,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "hg" in done.stdout.split()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.rtld.nns=9", "glibc.rtld.nns=9:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_other_tunables_are_kept(before: str, after: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.core import allocator as a; print(a.VARIABLES)"],
        cwd=ROOT,
        env=os.environ | {"GLIBC_TUNABLES": before},
        capture_output=True,
        text=True,
    )
    assert f"'GLIBC_TUNABLES': '{after}'" in done.stdout, done.stderr
