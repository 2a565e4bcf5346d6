"""README and docs say what is there: examples run, targets, stages, models and links exist."""

import re
from pathlib import Path

import pytest
import torch
import yaml

import arcore
from arcore.process_tuning import flushed_denormals
from pipeline.data import preprocessing
from pipeline.datasets import catalog
from pipeline.experiments import params_file
from pipeline.uses.use_records import USES
from tests.places import PAGES, ROOT, outputs_shown, python_examples

README = (ROOT / "README.md").read_text()
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}


@pytest.mark.parametrize("page", ["README.md", "docs/own-loop.md"])
def test_the_examples_print_what_is_shown(page: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = catalog.get_dataset({"name": "digits"})
    preprocessing.write(dataset, dataset.decode(tmp_path), tmp_path / "data/shards/digits")
    names: dict[str, object] = {}
    with torch.random.fork_rng(), flushed_denormals():  # which the loops leave on
        for example in python_examples(page):
            exec(compile(example, page, "exec"), names)
    assert capsys.readouterr().out == outputs_shown(page) != ""
    assert page == "README.md" or (tmp_path / "samples.png").stat().st_size > 1000


SAID = {
    "docs/library.md": [
        r"\d\.\d\d bits/dim, arcore \d+\.\d+\.\d+",
        r".*torch.Size\(\[2, 100\]\)",
        r"\d+ bytes True",
    ],
    "docs/outliers.md": [
        r"between 0.07\d and 0.12\d",
        r"reached 0.1\d\d",
        "True",
        r"torch.Size\(\[2000\]\) \[-?1, -?1, -?1\]",
    ],
    "docs/any-question.md": [r"torch.Size\(\[3\]\)"] * 3 + [r"torch.Size\(\[3, 1, 8, 8\]\)"] * 2,
    "docs/tables.md": [
        r"Table\(2 columns of levels, 1 of reals\)",
        r"torch.Size\(\[4\]\)",
        "False",
        r"\['colour', 'doors', 'price'\]",
        r"frame: row 1, column 'colour': expected one of blue, green, red, got 'bleu'",
        r"\(4,\)",
        r"\(100,\)",
        r"\['blue', 'blue'\]",
        r"\[-1\] \[2\]",
    ],
    "docs/hub.md": ["bits-nade"],
    "docs/uses.md": [
        r"torch.Size\(\[3\]\)",
        r"torch.Size\(\[3, 1, 4, 4\]\) torch.Size\(\[3\]\)",
        r"torch.Size\(\[3\]\) torch.Size\(\[3, 16\]\)",
        r"torch.Size\(\[3, 3\]\)",
        "True",
        "True",
    ],
}


@pytest.mark.parametrize("page", SAID)
def test_the_examples_run(page: str, tmp_path: Path, monkeypatch, capsys) -> None:
    """One after the other, and they say what they should."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCORE_CACHE", "cache")
    names: dict[str, object] = {}
    for example in python_examples(page):
        if "import mlflow" not in example:
            exec(compile(example, page, "exec"), names)
    assert re.fullmatch("\n".join(SAID[page]), capsys.readouterr().out.strip())


def test_every_use_is_a_row() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", TEXTS["docs/uses-reference.md"], re.MULTILINE)
    assert listed == list(USES)
    text = TEXTS["docs/uses.md"] + TEXTS["docs/exactness.md"]
    commands = re.findall(r"python -m\s+stages\.use (\w+)\s", text)
    assert set(commands) <= {*USES, "all"} and len(commands) == 8


def test_the_dag_is_that_of_dvc() -> None:
    """An arrow is an output of one stage that the other reads, directly or by way of a third."""
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", README, re.DOTALL)
    chains = [line.split(" --> ") for line in drawn.splitlines() if "-->" in line]
    arrows = {
        (a.strip(), b.strip()) for chain in chains for a, b in zip(chain, chain[1:], strict=False)
    }
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    writes = {name: _paths(stage, ("outs", "metrics", "plots")) for name, stage in stages.items()}
    reads = {name: _paths(stage, ("deps",)) for name, stage in stages.items()}
    reads["train"].add("searches")  # the base of an experiment that a search found
    found = {
        (a, b) for a in stages for b in stages if a not in (b, "code") and writes[a] & reads[b]
    }
    assert arrows <= found
    drawn_stages = {name for arrow in arrows for name in arrow}
    assert drawn_stages == set(stages) - {"code"}


def test_the_layout_is_there() -> None:
    (layout,) = re.findall(r"^```\n(arcore/ .*?)^```", README, re.DOTALL | re.MULTILINE)
    folders = re.findall(r"(\w+)/ ", layout)
    assert len(folders) == 9
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def _paths(stage: dict, kinds: tuple[str, ...]) -> set[str]:
    """First folders of what a stage reads or writes; the second where it is under data/."""
    body = stage.get("do", stage)
    found = set()
    for kind in kinds:
        for path in body.get(kind, []):
            parts = (path if isinstance(path, str) else next(iter(path))).split("/")
            found.add("/".join(parts[: 2 if parts[0] == "data" else 1]))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_what_commands_name_is_there(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", TEXTS[page], re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for module in re.findall(r"python -m ((?:stages|reproductions)\.\w+)", TEXTS[page]):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file()
    for script in re.findall(r"python ((?:benchmarks|docs)/\w+\.py)", TEXTS[page]):
        assert (ROOT / script).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", TEXTS[page])
    assert [link for link in links if not (ROOT / Path(page).parent / link).exists()] == []


def test_every_model_and_dataset_is_listed() -> None:
    for model in arcore.list_models():
        assert f"| `{model}` |" in README
        assert f"| `{model}` |" in TEXTS["docs/models.md"]
    for dataset in catalog.list_datasets():
        assert f"`{dataset}`" in TEXTS["docs/data.md"] or "binarized" in dataset
    known = params_file.read_params(ROOT / "params.yaml")["experiments"]
    trained = re.findall(r"stages\.train ([a-z_]+-[a-z-]+)", README)
    assert trained and set(trained) <= set(known)
