"""Recorded telephone prompts in five languages by five voices, with texts: in place of VCTK.

Asterisk's core sounds, one voice a language. Tones, and texts with remarks in brackets, are left
out. What a name stands for is in one split in all languages. Voice and language are one here: what
a model gains from the voice it may gain from the language.
"""

import gzip
import io
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from arcore.events import Levels
from pipeline.datasets.base import SPLITS, Dataset, Sound, SplitData, listed_files
from pipeline.datasets.formats import sound_files
from pipeline.datasets.formats.sound_files import Hearing, Utterance
from pipeline.datasets.options import Options, parse_options
from pipeline.datasets.read_transforms import permute_rows
from reproductions.datasets.stand_ins import APT_ARCHIVES, PACKAGES, check_content, read_files

VOICES = (
    "en_US_f_Allison",
    "es_MX_f_Allison",
    "fr_CA_f_June",
    "it_IT_m_Carlo",
    "ru_RU_f_IvrvoiceRU",
)
RATE, MAX_SECONDS, MAX_SYMBOLS = 8000, 3, 60
SYMBOLS = " '0123456789abcdefghijklmnopqrstuvwxyzàçèéêìîòùúûабвгдежзийклмнопрстуфхцчшщъыьэюяё"
TEST_SHARE, VALID_SHARE = 0.1, 0.05
# Of the bytes of rows and then of labels of train, valid and test.
CONTENT_SHA256 = "a14458ac697ee6dc37c86851ed88b0dfc9b6525e9122e29ba8e1caa91bb1d6a0"
FILES = listed_files(PACKAGES, "telephone_prompts")  # of sounds and of texts, by language
SOUND = Sound(RATE, MAX_SECONDS * RATE, MAX_SYMBOLS, VOICES, tuple(SYMBOLS))


def plain(text: str) -> str:
    """Reduce a text to its symbols: small letters, digits, spaces between words, apostrophes.

    Example:
        >>> plain("Numéro d'agent,  suivi du  DIÈSE.")
        "numéro d'agent suivi du dièse"
    """
    small = unicodedata.normalize("NFC", text).lower().replace("’", "'")
    kept = "".join(one if one in SYMBOLS else " " for one in small)
    return " ".join(kept.split())


def read_texts(content: str) -> dict[str, str]:
    r"""Read a list of lines `name: text`; comments begin with a semicolon.

    Example:
        >>> read_texts("; English\n\nadded: Added.\nbeep: [a tone]\n")
        {'added': 'added'}
    """
    texts = {}
    for line in content.splitlines():
        name, colon, text = line.partition(":")
        remarked = any(bracket in text for bracket in "[(<")
        if colon and not line.startswith(";") and not remarked and plain(text):
            texts[name.strip()] = plain(text)
    return texts


@dataclass(frozen=True, kw_only=True)
class TelephonePrompts(Dataset):
    """Prompts with their voices and texts, split by prompt."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the prompts, and check rows and labels."""
        found: dict[tuple[str, int], Utterance] = {}
        for voice, (sounds, texts) in enumerate(zip(FILES[::2], FILES[1::2], strict=True)):
            found |= _utterances(raw_dir / sounds.name, raw_dir / texts.name, voice)
        names = sorted({name for name, _ in found})
        order = [names[i] for i in permute_rows(len(names), 0)]
        num_test, num_valid = (round(share * len(names)) for share in (TEST_SHARE, VALID_SHARE))
        of_name = dict.fromkeys(order, "train")
        of_name |= dict.fromkeys(order[:num_test], "test")
        of_name |= dict.fromkeys(order[num_test : num_test + num_valid], "valid")
        splits = {}
        for split in SPLITS:
            keys = sorted(key for key in found if of_name[key[0]] == split)
            splits[split] = sound_files.rows([found[key] for key in keys], SOUND)
        check_content(self.name, splits.values(), CONTENT_SHA256, f"numpy {np.__version__}")
        return splits


def _utterances(sounds: Path, lists: Path, voice: int) -> dict[tuple[str, int], Utterance]:
    listed = [gzip.decompress(content) for _, content in read_files(lists, (".txt.gz",))]
    texts = read_texts(listed[0].decode("utf-8-sig"))
    found = {}
    for path, content in read_files(sounds, (".wav",)):
        name = "/".join(PurePosixPath(path).parts[5:]).removesuffix(".wav")
        text = texts.get(name, "")
        if not 0 < len(text) <= MAX_SYMBOLS:
            continue
        samples = sound_files.read_samples(io.BytesIO(content), Hearing(RATE), path)
        if len(samples) <= SOUND.max_length:
            symbols = tuple(SYMBOLS.index(one) for one in text)
            found[name, voice] = Utterance(sound_files.encode(samples), voice, symbols)
    return found


def build(settings: Mapping[str, object]) -> Dataset:
    """Build the dataset telephone_prompts."""
    return TelephonePrompts(
        name="telephone_prompts",
        event=Levels(sound_files.NUM_LEVELS, (None,)),
        unit="bits_per_dim",
        files=FILES,
        provenance=(
            "Debian's asterisk-core-sounds-{en,es,fr,it,ru}-wav 1.6.1-1 and their texts (CC BY-SA "
            f"3.0): prompts of at most {MAX_SECONDS} s and {MAX_SYMBOLS} characters; mu-law, "
            f"{sound_files.NUM_LEVELS} levels; split by prompt over all languages, {TEST_SHARE} "
            f"test and {VALID_SHARE} valid, by seed 0"
        ),
        options=parse_options(Options, "telephone_prompts", settings),
        system_folders=(APT_ARCHIVES,),
        sound=SOUND,
    )
