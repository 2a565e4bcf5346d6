"""docs/your-data.md, and VCTK in docs/sounds.md, followed in a copy of the checkout."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data.manifest import read_manifest
from pipeline.datasets import adding, catalog
from stages import fetch, preprocess
from tests.places import ROOT
from tests.support import own_files
from tests.support.projects import ONE_CPU, Project
from tests.support.sources import copy_code

PAGE = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


def write_images(folder: Path) -> None:
    own_files.write_pictures(folder / "photos")
    packed = list(own_files.packed_pictures(30))
    own_files.write_image_parquet(folder / "birds/train.parquet", packed, [0, 1] * 15)


def write_clips_and_text(folder: Path) -> None:
    for clip in range(20):
        for frame in range(4):
            own_files.write_picture(folder / f"walks/{clip}/{frame}.png", 6, 6, 10 * clip + frame)
    (folder / "tales").mkdir()
    (folder / "tales/a.txt").write_text("Once upon a time. " * 400)


FILES: dict[str, Callable[[Path], None]] = {
    "Images": write_images,
    "Clips and text": write_clips_and_text,
    "Arrays": lambda folder: own_files.write_simulations(folder / "jets.npz"),
    "Tables": lambda folder: own_files.write_cars(folder / "cars.csv"),
    "Sounds": lambda folder: own_files.write_recordings(folder / "recordings"),
}
FOUND = {
    "Images": [
        "rows       16 train, 2 valid, 2 test",
        "rows       24 train, 3 valid, 3 test",
        "event      Levels(shape=(3, 16, 16), num_levels=256)",
        "classes    2, by folder: rose, tulip",
    ],
    "Clips and text": ["20 folders of images of 4 frames", "7.2 kB, 1 file, byte by byte"],
    "Arrays": ["Real(shape=(3,), bin_width=None)", "of shape (2,)"],
    "Tables": [
        "Levels([3, 2, 7])",
        "integers as levels: doors 2 (0 to 1), owners 7 (0 to 6)",
        "Table(3 columns of levels, 1 of reals)",
        "reals: price",
    ],
    "Sounds": ["at 8000 Hz, the longest of 0.1 s", "speakers   ann, bob"],
}
TRAINS = ("train", "evaluate")


@pytest.fixture(scope="module")
def copied(
    tmp_path_factory: pytest.TempPathFactory, migrated: Path, warm: dict[str, str]
) -> Project:
    """A copy of this checkout's code."""
    folder = tmp_path_factory.mktemp("checkout")
    copy_code(folder)
    shutil.copy(migrated, folder / "mlflow.db")
    project = Project(folder, folder)
    project.warm = warm
    return project


@pytest.fixture
def checkout(copied: Project) -> Iterator[Project]:
    """The copy as it was, with no dataset and no experiment."""
    (copied.folder / "params.yaml").write_text("datasets: []\nexperiments: {}\n")
    before = set(copied.folder.rglob("*"))
    yield copied
    for path in sorted(set(copied.folder.rglob("*")) - before, reverse=True):
        if "__pycache__" not in path.parts:
            path.rmdir() if path.is_dir() else path.unlink()


def follow(section: str, project: Project, trains: bool) -> str:
    printed = []
    for language, code in re.findall(r"```(\w+)\n(.*?)```", SECTIONS[section], re.S):
        if language == "yaml":
            entered = {"datasets": [], **yaml.safe_load(code)}
            (project.folder / "params.yaml").write_text(yaml.safe_dump(entered))
            continue
        if language == "python":
            if trains:
                done = project.run("python", "-W", "error", "-c", code)
                assert done.returncode == 0, done.stderr
                printed.append(done.stdout)
            continue
        for line in code.splitlines():
            stage = re.fullmatch(r"python -m stages\.(\w+) .*", line)
            assert stage is not None, line
            if stage[1] in TRAINS:
                if not trains:
                    continue
                line += f" {ONE_CPU}" if stage[1] == "train" else ""
            done = project.run("bash", "-c", line)
            assert done.returncode == 0, f"{line}: {done.stderr}"
            printed.append(done.stdout)
    return "".join(printed)


@pytest.mark.parametrize(
    ("section", "trains"),
    [
        ("Images", False),
        ("Tables", False),
        *(
            pytest.param(section, section != "Clips and text", marks=pytest.mark.slow)
            for section in FILES
        ),
    ],
)
def test_the_page_is_followed(section: str, trains: bool, checkout: Project) -> None:
    FILES[section](checkout.folder)
    printed = follow(section, checkout, trains)
    for found in FOUND[section]:
        assert found in printed
    made = [path.parent.name for path in checkout.folder.glob("data/shards/*/manifest.json")]
    assert sorted(made) == sorted(re.findall(r"stages\.preprocess (\w+)", SECTIONS[section]))
    if trains:
        assert len(list(checkout.folder.glob("evaluation/*/*/metrics.json"))) == 1


def test_a_name_is_not_taken_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(catalog.CONF_FOLDER / "digits.yaml", tmp_path)
    monkeypatch.setattr(catalog, "CONF_FOLDER", tmp_path)
    own_files.write_cars(tmp_path / "cars.csv")
    given = ("cars.csv", ["drop=[price]"])
    adding.add("csv", "cars", *given)
    with pytest.raises(UserError, match="cars.yaml: there already"):
        adding.add("csv", "cars", *given)
    adding.add("csv", "cars", *given, replace=True)
    for name in ("digits", "../cars"):
        with pytest.raises(UserError, match="expected a new name of letters"):
            adding.add("csv", name, *given, replace=True)


def test_another_file_is_fetched_as_it_is_preprocessed(workdir, monkeypatch) -> None:
    """By `path=`, as the messages say."""
    monkeypatch.setattr(catalog, "CONF_FOLDER", workdir)
    own_files.write_cars(workdir / "cars.csv")
    shutil.copy("cars.csv", "newer cars.csv")
    adding.add("csv", "cars", "cars.csv", ["drop=[price]"])
    given = ["cars", "path=newer cars.csv"]
    missing = r"newer cars.csv: file not found; run python -m stages.fetch cars '(path=[^']*)'$"
    monkeypatch.setattr(sys, "argv", ["preprocess", *given])
    with pytest.raises(UserError, match=missing) as caught:
        preprocess.main()
    asked = re.search(missing, str(caught.value))
    assert asked is not None
    monkeypatch.setattr(sys, "argv", ["fetch", "cars", asked[1]])
    fetch.main()
    monkeypatch.setattr(sys, "argv", ["preprocess", *given])
    preprocess.main()
    assert read_manifest(paths.shards("cars")).options["path"] == "newer cars.csv"


VCTK = (ROOT / "docs" / "sounds.md").read_text(encoding="utf-8").partition("\n## VCTK\n")[2]
RATE = 48_000
TEXTS = {"p225": "Please call Stella.", "p226": 'Ask her, "please".', "p315": None}


def write_corpus(folder: Path, takes: int = 10) -> None:
    generator = np.random.default_rng(0)
    for speaker, text in TEXTS.items():
        sounds, texts = folder / "wav48_silence_trimmed" / speaker, folder / "txt" / speaker
        sounds.mkdir(parents=True)
        texts.mkdir(parents=True)
        for take in range(1, takes + 1):
            name = f"{speaker}_{take:03}"
            for microphone in ("mic1", "mic2"):
                wave = generator.uniform(-0.5, 0.5, RATE // 100)
                soundfile.write(sounds / f"{name}_{microphone}.flac", wave, RATE)
            if text is not None:
                (texts / f"{name}.txt").write_text(f"{text}\n", encoding="utf-8")


def test_the_layout_of_vctk(checkout: Project) -> None:
    corpus = checkout.folder / "VCTK-Corpus"
    write_corpus(corpus)
    makes_the_table, stages = re.findall(r"```\w+\n(.*?)```", VCTK, re.S)
    subprocess.run([sys.executable, "-c", makes_the_table], cwd=corpus, check=True)
    for line in stages.splitlines():
        done = checkout.run("bash", "-c", line)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    manifest = read_manifest(checkout.folder / "data" / "shards" / "vctk")
    assert manifest.sound is not None
    assert manifest.sound.sample_rate == 16_000
    assert manifest.sound.speakers == ("p225", "p226")
    assert set(manifest.sound.symbols) == set("".join(text for text in TEXTS.values() if text))
    assert sum(split.rows for split in manifest.splits.values()) == 20
