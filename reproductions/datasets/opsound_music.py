"""Five pieces of music by three artists, in segments of four seconds: in place of piano music.

Segments quieter than `QUIETEST`, the ends of fade-outs, are left out. Two of the pieces are made of
loops, so that nearly every later second is heard before. What is measured is how well the later
part of a piece is foretold by a model that learned from its first part, not music that it never
heard. No segment of valid or test occurs in an earlier split: the greatest normalised
cross-correlation with any four seconds of one is 0.83, against 0.99 in the pieces of loops.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from arcore.events import Levels
from pipeline.datasets.base import SPLITS, Dataset, Sound, SplitData, listed_files
from pipeline.datasets.formats import sound_files
from pipeline.datasets.formats.sound_files import Hearing, Utterance
from pipeline.datasets.options import Options, parse_options
from reproductions.datasets.stand_ins import APT_ARCHIVES, PACKAGES, check_content, read_files

OF_LOOPS = ("macroform-robot_dity", "macroform-the_simplicity")
PIECES = (
    "macroform-cold_day",
    "macroform-robot_dity",
    "macroform-the_simplicity",
    "manolo_camp-morning_coffee",
    "reno_project-system",
)
RATE, SECONDS = 8000, 4
QUIETEST = 0.015  # root mean square of amplitudes in [-1, 1)
TEST_SHARE, VALID_SHARE = 0.2, 0.1
# Of the bytes of rows and then of labels of train, valid and test.
CONTENT_SHA256 = "b73345fc232aadd4e353ece458bd9af4194091838ca0fb47cdd163571009fd74"
(FILE,) = listed_files(PACKAGES, "opsound_music")
SOUND = Sound(RATE, SECONDS * RATE, 0, PIECES, ())


def segments(amplitudes: np.ndarray, length: int = SOUND.max_length) -> np.ndarray:
    """Cut amplitudes (T,) into segments (N, length), without the quiet ones.

    Example:
        >>> segments(np.array([0.5, -0.5, 0.0, 0.01, 0.25, 0.5, 0.5]), 2).tolist()
        [[0.5, -0.5], [0.25, 0.5]]
    """
    whole = amplitudes[: len(amplitudes) // length * length].reshape(-1, length)
    return whole[np.sqrt((whole**2).mean(1)) >= QUIETEST]  # type: ignore[no-any-return]


def blocks(count: int) -> dict[str, range]:
    """Split the segments of a piece by time: train, valid, test, and one between two of them left.

    Example:
        >>> blocks(20)
        {'train': range(0, 12), 'valid': range(13, 15), 'test': range(16, 20)}
    """
    test = count - round(TEST_SHARE * count)
    valid = test - 1 - round(VALID_SHARE * count)
    return {
        "train": range(valid - 1),
        "valid": range(valid, test - 1),
        "test": range(test, count),
    }


@dataclass(frozen=True, kw_only=True)
class OpsoundMusic(Dataset):
    """Segments of pieces of music, split by time."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the pieces, and check rows and labels."""
        path = raw_dir / FILE.name
        pieces = {PurePosixPath(name).stem: data for name, data in read_files(path, (".wav",))}
        found: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
        for number, piece in enumerate(PIECES):
            amplitudes = sound_files.read_samples(io.BytesIO(pieces[piece]), Hearing(RATE), piece)
            rows = [Utterance(sound_files.encode(x), number) for x in segments(amplitudes)]
            of_split = {"train": range(len(rows))} if piece in OF_LOOPS else blocks(len(rows))
            for split, places in of_split.items():
                found[split] += [rows[place] for place in places]
        splits = {split: sound_files.rows(found[split], SOUND) for split in SPLITS}
        check_content(self.name, splits.values(), CONTENT_SHA256, f"numpy {np.__version__}")
        return splits


def build(settings: Mapping[str, object]) -> Dataset:
    """Build the dataset opsound_music."""
    return OpsoundMusic(
        name="opsound_music",
        event=Levels(sound_files.NUM_LEVELS, (None,)),
        unit="bits_per_dim",
        files=(FILE,),
        provenance=(
            "Debian's asterisk-moh-opsound-wav 2.03-1.1 (CC BY-SA 3.0: Paul Shuler (Macroform), "
            f"Manolo Camp, Reno Project): segments of {SECONDS} s of five pieces; mu-law, "
            f"{sound_files.NUM_LEVELS} levels; two pieces of loops train alone, of the others the "
            f"last {TEST_SHARE} test and before it {VALID_SHARE} valid, a segment dropped between"
        ),
        options=parse_options(Options, "opsound_music", settings),
        system_folders=(APT_ARCHIVES,),
        sound=SOUND,
    )
