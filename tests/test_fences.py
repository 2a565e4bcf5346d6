"""Every fenced block of the texts is run by a test, or says that it is not and why.

The line before a block says which: `<!-- run by: tests/...::test -->`, `<!-- not run: why -->`,
or that a picture or table is drawn by a script of its own.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

import arcore
from arcore import events
from pipeline.experiments import compose, params_file
from pipeline.experiments.schema import build
from pipeline.search import spec
from reproductions.studies import run_studies
from tests.places import PAGES, ROOT

DRAWN = re.compile(r"<!-- (pipeline|arcore|table: [a-z_]+) -->")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str) -> list[Block]:
    """The fenced blocks of a text, with the last line before each."""
    lines, found, start = text.splitlines(), [], None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        code = "\n".join(lines[start + 1 : number])
        mark = next((before for before in reversed(lines[:start]) if before), "")
        found.append(Block(page, start + 1, lines[start][3:], code, mark))
        start = None
    assert start is None, f"{page}: a block without an end"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page, (ROOT / page).read_text())]
every_block = pytest.mark.parametrize("block", BLOCKS, ids=str)


def problem_of(block: Block) -> str | None:
    """What is wrong with the line before a block, if anything."""
    if DRAWN.fullmatch(block.mark):
        return None
    if re.fullmatch(r"<!-- not run: \S.{8,} -->", block.mark):
        named = re.findall(r"tests/[\w/]+\.py", block.mark)
        return next((f"{name} is not there" for name in named if not (ROOT / name).is_file()), None)
    runs = re.fullmatch(r"<!-- run by: ([\w./]+)(?:::(\w+))? -->", block.mark)
    if runs is None:
        return f"expected <!-- run by: ... --> or <!-- not run: why -->, got {block.mark!r}"
    path = ROOT / runs[1]
    if not path.is_file():
        return f"{runs[1]} is not there"
    if runs[2] is not None and f"def {runs[2]}(" not in path.read_text():
        return f"{runs[1]} has no {runs[2]}"
    return None


@every_block
def test_a_block_is_run_or_says_why_not(block: Block) -> None:
    assert problem_of(block) is None


@pytest.mark.parametrize(
    "mark",
    [
        "Some words.",
        "<!-- not run: -->",
        "<!-- not run: hours; tests/test_nothing.py does it -->",
        "<!-- run by: tests/test_nothing.py -->",
        "<!-- run by: tests/test_fences.py::test_that_is_not_there -->",
    ],
)
def test_an_unmarked_block_is_found(mark: str) -> None:
    (block,) = blocks_of("page.md", f"# Title\n\n{mark}\n```sh\nls\n```\n")
    assert problem_of(block) is not None


SHELL = [block for block in BLOCKS if block.language == "sh"]


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_are_there(block: Block) -> None:
    """Experiments and parameters that commands name, run or not."""
    params = params_file.read_params(ROOT / "params.yaml")
    for line in block.code.replace("\\\n", " ").splitlines():
        words = line.partition("  #")[0].replace("'", "").split()
        for kind, name in re.findall(
            r"\b(train|evaluate|tune|mix|report|register)@(\w[\w-]*)", line
        ):
            known = {"tune": "searches", "train": "experiments", "evaluate": "experiments",
                     "mix": "mixtures"}  # fmt: skip
            assert name in params[known.get(kind, "datasets")] or name.startswith("my_")
        for setting in (words[i + 1] for i, word in enumerate(words) if word == "-S"):
            section, name, *_ = setting.lstrip("+").partition("=")[0].split(".")
            assert name in params[section]


def load(section: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put the entries that a block shows into a params.yaml beside the files that they name."""
    read = yaml.safe_load(text)
    entries = read.get(section, read)
    base = ROOT / "pipeline" / "conf" / "base.yaml"
    for entry in entries.values():
        if (path := entry.get("base")) is not None:
            there = folder / path
            there.parent.mkdir(parents=True, exist_ok=True)
            known = (ROOT / path).is_file()
            there.write_text(base.read_text() if known else "model: {}\ntrainer: {}\n")
    everything = {"experiments": {}, "searches": {}} | {section: entries}
    (folder / "params.yaml").write_text(yaml.safe_dump(everything))
    monkeypatch.chdir(folder)
    return list(entries)


def test_the_search_that_is_shown_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands name the search and the experiment of the page, which name each other."""
    page = [block for block in BLOCKS if block.page == "docs/tuning.md"]
    search, experiment = (block.code for block in page if block.language == "yaml")
    commands = "\n".join(block.code for block in page if block.language == "sh")
    (searched,) = load("searches", search, tmp_path, monkeypatch)
    assert spec.load_search(searched).plan.num_trials == 8
    assert set(re.findall(r"(?:stages\.tune |tune@)(\w+)", commands)) == {searched}
    (trained,) = load("experiments", experiment, tmp_path, monkeypatch)
    assert compose.load(trained).name == trained
    assert re.findall(r"evaluate@(\w+)", commands) == [trained]
    assert (
        yaml.safe_load(experiment)["experiments"][trained]["base"]
        == f"searches/{searched}/best.yaml"
    )


def test_studies_that_are_shown_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for block in BLOCKS if block.code.startswith("studies:")]
    load("studies", block.code, tmp_path, monkeypatch)
    for name, entry in yaml.safe_load(block.code)["studies"].items():
        settings = {k: v for k, v in entry.items() if k not in ("dataset", "study")}
        build(run_studies.STUDY_TYPES[entry["study"]], settings, name)
        for title, network in entry["networks"].items():
            compose.compose(title, name, network | {"dataset": entry["dataset"]})


@pytest.mark.parametrize("page", ["docs/clips.md"])
def test_experiments_that_are_shown_can_be(page: str, tmp_path, monkeypatch) -> None:
    blocks = [b for b in BLOCKS if b.page == page and b.language == "yaml"]
    assert blocks
    for block in blocks:
        for name in load("experiments", block.code, tmp_path, monkeypatch):
            assert compose.load(name).name == name


def test_mixtures_that_are_shown_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.code.startswith("mixtures:")]
    params = params_file.read_params(ROOT / "params.yaml")
    shown = yaml.safe_load(block.code)["mixtures"]
    assert set(shown) <= set(params["mixtures"])
    shutil.copytree(ROOT / "pipeline" / "conf", tmp_path / "pipeline" / "conf")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params | {"mixtures": shown}))
    monkeypatch.chdir(tmp_path)
    for name, entry in shown.items():
        assert list(compose.load(name).mixture) == entry["mixture"]


def test_the_papers_sizes_can_be_built() -> None:
    (block,) = [block for block in BLOCKS if block.code.startswith("nade: {hidden: 500}")]
    bits, cifar = events.Binary((1, 28, 28)), events.Levels(256, (3, 32, 32))
    of = {
        "pixelcnn": cifar, "row_lstm": cifar, "diagonal_bilstm": cifar, "gated_pixelcnn": cifar,
        "wavenet": events.Levels(256, (None,)),
        "video_pixel_network": events.Binary((20, 1, 64, 64)),
    }  # fmt: skip
    sizes = yaml.safe_load(block.code)
    assert len(sizes) == 11
    for name, hyperparameters in sizes.items():
        with torch.device("meta"):
            model = arcore.create_model(name, of.get(name, bits), **hyperparameters)
        assert sum(p.numel() for p in model.parameters()) > 100_000
