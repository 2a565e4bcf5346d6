"""README and docs say what is there: examples run, targets, stages, models and links exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import arcore
from pipeline.datasets import catalog
from pipeline.experiments import compose
from tests.places import ROOT

README = (ROOT / "README.md").read_text()
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "results" / "README.md",
        ROOT / "benchmarks" / "README.md",
    ]
}
ALL = "\n".join(PAGES.values())


def test_the_first_example_runs(capsys) -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    exec(compile(example.group(1), "README.md", "exec"), {})
    assert "bits/dim" in capsys.readouterr().out


def test_readme_is_short() -> None:
    assert len(README.encode()) <= 8_000


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", ALL))))
def test_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("stage", sorted(set(re.findall(r"python -m (stages\.[a-z_]+)", ALL))))
def test_stages_exist(stage: str) -> None:
    assert (ROOT / (stage.replace(".", "/") + ".py")).exists()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", PAGES[page])
    assert [link for link in links if not (ROOT / Path(page).parent / link).exists()] == []


def test_every_model_and_dataset_is_listed() -> None:
    for model in arcore.list_models():
        assert f"| `{model}` |" in README
        assert f"| `{model}` |" in PAGES["docs/models.md"]
    for dataset in catalog.list_datasets():
        assert f"`{dataset}`" in PAGES["docs/data.md"] or "binarized" in dataset
    known = compose.read_params(ROOT / "params.yaml")["experiments"]
    for name in re.findall(r"stages\.train ([a-z_]+-[a-z-]+)", README):
        assert name in known
