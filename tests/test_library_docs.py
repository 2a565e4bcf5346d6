"""docs/library.md: its examples run one after the other, and say what they should."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.support.examples import python_examples

TEXT = (ROOT / "docs" / "library.md").read_text()


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    examples = python_examples("docs/library.md")
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, "docs/library.md", "exec"), names)
    first, second, third = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d\.\d\d bits/dim, arcore \d+\.\d+\.\d+", first)
    assert second.endswith("torch.Size([2, 100])")
    assert re.fullmatch(r"\d+ bytes True", third)


@pytest.mark.parametrize("stage", sorted(set(re.findall(r"python -m (stages\.[a-z]+)", TEXT))))
def test_the_stages_exist(stage: str) -> None:
    assert (ROOT / (stage.replace(".", "/") + ".py")).exists()
