"""Telephone prompts: lists of texts, and the protocol where its packages are."""

import pytest

from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS
from reproductions.datasets.telephone_prompts import SYMBOLS, plain, read_texts
from tests.places import MIRROR, ROOT

PLACES = (ROOT / "data" / "raw" / "telephone_prompts", MIRROR / "telephone_prompts")
FILES = next((folder for folder in PLACES if folder.is_dir()), None)


def test_texts_are_symbols() -> None:
    assert plain("  Введите «номер», ё!") == "введите номер ё"
    assert plain("It’s 7 o'clock -- PM") == "it's 7 o'clock pm"
    assert len(set(SYMBOLS)) == len(SYMBOLS) == 82
    lines = "; a comment: with a colon\r\ndigits/1: one\nbeep: <beep>\nno colon\nempty: !\n"
    assert read_texts(lines) == {"digits/1": "one"}


@pytest.mark.skipif(FILES is None, reason=f"no Debian packages in {PLACES}")
def test_prompts_are_those_of_the_protocol() -> None:
    assert FILES is not None
    splits = catalog.get_dataset({"name": "telephone_prompts"}).decode(FILES)
    assert [len(splits[split]) for split in SPLITS] == [1683, 106, 205]
