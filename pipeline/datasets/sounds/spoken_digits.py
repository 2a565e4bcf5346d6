"""The Free Spoken Digit Dataset: 3,000 spoken digits of six speakers at 8 kHz.

A sound's speaker is a global condition, its digit a text of one symbol.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from arcore.events import Levels
from pipeline.datasets.base import SPLITS, Dataset, RawFile, Sound, SplitData
from pipeline.datasets.formats import sound_files
from pipeline.datasets.formats.archives import open_archive
from pipeline.datasets.formats.sound_files import Hearing, Utterance
from pipeline.datasets.options import Options, parse_options

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = {"test": range(0, 5), "valid": range(5, 10), "train": range(10, 50)}
SOUND = Sound(8000, 18_262, 1, SPEAKERS, tuple("0123456789"))
_VERSION = "free-spoken-digit-dataset-1.0.10"
_ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset"
_ARCHIVE = RawFile(
    f"{_VERSION}.tar",
    "5a380f2aa079c52450522e745925268b8e19e3d307cce72402fa7cc1bd4cec3e",
    23_439_360,
    f"{_ADDRESS}/archive/refs/tags/v1.0.10.tar.gz",
)


@dataclass(frozen=True, kw_only=True)
class SpokenDigits(Dataset):
    """The recordings of an archive; each split has some takes of each digit and speaker."""

    takes: Mapping[str, range]

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode all recordings and split them by take, each sorted by take, digit and speaker."""
        path = raw_dir / _ARCHIVE.name
        assert self.sound is not None
        found: dict[str, dict[tuple[int, int, int], Utterance]] = {split: {} for split in SPLITS}
        with open_archive(path) as files:
            for member, content in files:
                parts = re.fullmatch(r".*/(\d)_([a-z]+)_(\d+)\.wav", member.name)
                if parts is None:
                    continue
                digit, speaker, take = int(parts[1]), SPEAKERS.index(parts[2]), int(parts[3])
                data = io.BytesIO(content.read())
                samples = sound_files.read_samples(data, Hearing(SOUND.sample_rate), member.name)
                (split,) = (split for split in SPLITS if take in self.takes[split])
                key = take, digit, speaker
                found[split][key] = Utterance(sound_files.encode(samples), speaker, (digit,))
        return {
            split: sound_files.rows([one for _, one in sorted(found[split].items())], self.sound)
            for split in SPLITS
        }


def _build(settings: Mapping[str, object]) -> Dataset:
    return SpokenDigits(
        name="spoken_digits",
        family="fsdd",
        event=Levels(sound_files.NUM_LEVELS, (None,)),
        unit="bits_per_dim",
        files=(_ARCHIVE,),
        provenance=(
            f"{_ADDRESS} 1.0.10; mu-law, {sound_files.NUM_LEVELS} levels; takes 0-4 test "
            "(official), 5-9 valid, 10-49 train, of each digit and speaker"
        ),
        options=parse_options(Options, "spoken_digits", settings),
        sound=SOUND,
        takes=TAKES,
    )


DATASETS = {"spoken_digits": _build}
