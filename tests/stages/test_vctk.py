"""The layout of VCTK, as docs/sounds.md has it: its table, and the dataset made of both."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from pipeline.data.manifest import read_manifest
from tests.places import ROOT
from tests.support.projects import Project

SECTION = (ROOT / "docs" / "sounds.md").read_text(encoding="utf-8").partition("\n## VCTK\n")[2]
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
    makes_the_table, stages = re.findall(r"```\w+\n(.*?)```", SECTION, re.S)
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
