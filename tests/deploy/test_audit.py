"""`make audit` never calls well what nobody looked up."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.places import ROOT

WELL = {"name": "a", "version": "1", "vulns": []}
ILL = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


def audit(text: str) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / ".ci/audit.py")]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("dependencies", "status", "said"),
    [
        ([WELL, WELL], 0, "2 of 2 pinned dependencies looked up, 0 known vulnerabilities"),
        ([WELL, ILL], 1, "b 2: PYSEC-1, mended in 3"),
        ([WELL, UNKNOWN], 2, "1 of 2 pinned dependencies looked up"),
        ([ILL, UNKNOWN], 1, "the source knows nothing of c"),
        ([], 2, "0 of 0"),
    ],
)
def test_reports(dependencies: list[dict[str, Any]], status: int, said: str) -> None:
    found, output = audit(json.dumps({"dependencies": dependencies}))
    assert found == status and said in output


@pytest.mark.parametrize("text", ["", "Connection refused", "[]", '{"dependencies": 3}'])
def test_without_a_report_it_says_so(text: str) -> None:
    status, output = audit(text)
    assert status == 2 and "no report: is the advisory source reachable?" in output
