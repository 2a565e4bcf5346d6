"""docs/uses.md: its examples run one after the other, and it names every use and setting."""

from __future__ import annotations

import re

import pytest

from pipeline.uses.use_descriptions import USES
from tests.places import ROOT
from tests.support.examples import python_examples

TEXT = (ROOT / "docs" / "uses.md").read_text()


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    examples = python_examples("docs/uses.md")
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "docs/uses.md", "exec"), names)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "torch.Size([3])"
    assert said[1] == "torch.Size([3, 1, 4, 4]) torch.Size([3])"
    assert said[2] == "torch.Size([3]) torch.Size([3, 16])"
    assert said[3] == "torch.Size([3, 3])"
    assert said[4] == "True"


def test_every_use_is_a_row() -> None:
    assert re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE) == list(USES)
    commands = re.findall(r"python -m\s+stages\.use (\w+)\s", TEXT)
    assert set(commands) <= {*USES, "all"} and len(commands) == 8
