"""Tables of text, read by pandas; UCI's red wine in ten folds."""

import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import fsspec
import numpy as np
import pandas as pd

from arcore.events import Real
from pipeline.core.errors import UserError, one_line, require
from pipeline.datasets.base import Dataset, RawFile, SplitData
from pipeline.datasets.options import Options, between, parse_options
from pipeline.datasets.read_transforms import permute_rows
from pipeline.datasets.scaling import fit_scaling

WINE_FILE = "winequality-red.csv"
WINE_COLUMNS = 11
NUM_FOLDS, FOLD_SEED = 10, 0
LEAST_BOUND, MOST = 1 << 28, 100  # bytes of an uncompressed table, and times the compressed ones
# What pandas and libraries of compression raise for damaged files.
DAMAGED = (
    OSError, ValueError, OverflowError, EOFError, RuntimeError, NotImplementedError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
MISSING = ("NA", "N/A", "n/a", "#N/A", "<NA>", "na", "NaN", "nan", "NULL", "null", "?")


def read_table(
    path: Path, delimiter: str = ",", header: bool = True, missing: Sequence[str] = MISSING
) -> pd.DataFrame:
    """Read the cells of a text table as text, without spaces around them; rows count from 1.

    Blank rows are left out. Columns without a header are called 0, 1, ...
    """
    table = _read_cells(path, delimiter, missing)
    names = _names(table, path, header)
    table = table.iloc[1:] if header else table
    table.columns = pd.Index(names)
    table = table.dropna(how="all") if len(names) > 1 else table
    require(len(table) > 0, str(path), "rows below the header", "none")
    return table


def read_names(path: Path, delimiter: str, header: bool) -> list[str]:
    """Read the names of a table's columns, as `read_table` does, and none of its other rows."""
    return _names(_read_cells(path, delimiter, MISSING, rows=1), path, header)


def _read_cells(
    path: Path, delimiter: str, missing: Sequence[str], rows: int | None = None
) -> pd.DataFrame:
    """Read the cells of the first rows, or of all, which count from 1."""
    fits = len(delimiter) == 1 and delimiter not in '"\r\n'
    require(fits, "delimiter", "one character, no quote or line break", delimiter)
    try:
        file = _unpacked(path)
        table = pd.read_csv(
            file, sep=delimiter, header=None, dtype=str, keep_default_na=False, nrows=rows,
            na_values=["", *missing], encoding="utf-8-sig", skip_blank_lines=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; run python -m stages.fetch first") from None
    except DAMAGED as error:
        raise UserError(f"{path}: expected a table of text: {one_line(error)}") from None
    table = pd.DataFrame({place: table[place].str.strip() for place in table})
    table.index += 1
    return table


def _unpacked(path: Path) -> Path | io.BytesIO:
    """Return a table's file; of a compressed one its content, which may be `MOST` times as long."""
    packed = fsspec.utils.infer_compression(path.name)
    if packed is None:
        return path
    most = max(LEAST_BOUND, MOST * path.stat().st_size)
    with fsspec.open(str(path), compression=packed) as file:
        content = file.read(most + 1)
    require(len(content) <= most, str(path), f"at most {most:,} bytes uncompressed", "more")
    return io.BytesIO(content)


def _names(table: pd.DataFrame, path: Path, header: bool) -> list[str]:
    """The names of the columns, from the first row or by their numbers."""
    places = [str(place) for place in table.columns]
    names: list[str] = table.iloc[0].fillna("").tolist() if header else places
    hint = "; if row 1 has none, give header=false" if header else ""
    for name in names:
        require(
            names.count(name) == 1, f"{path}{hint}: columns", "different names", f"{name} twice"
        )
    return names


@dataclass(frozen=True, kw_only=True)
class RedWineOptions(Options):
    """Options of red_wine: which of the ten folds is the test split."""

    fold: Annotated[int, between(0, NUM_FOLDS - 1)] = 0


@dataclass(frozen=True, kw_only=True)
class RedWine(Dataset):
    """UCI's red wine under RNADE's protocol: fold k tests, fold k + 1 validates, the rest trains.

    Folds are cut from the permutation of rows that seed 0 names. The integer score is dropped. So
    would be one of two columns whose correlation exceeds 0.98 in size, but there are none.
    """

    options: RedWineOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the table, cut the folds and standardise by the training rows."""
        path = raw_dir / WINE_FILE
        values = read_table(path, ";").drop(columns="quality").to_numpy(object).astype(np.float64)
        folds = np.array_split(permute_rows(len(values), FOLD_SEED), NUM_FOLDS)
        fold = self.options.fold
        rows = {"test": folds[fold], "valid": folds[(fold + 1) % NUM_FOLDS]}
        held_out = np.concatenate(list(rows.values()))
        rows["train"] = np.setdiff1d(np.arange(len(values)), held_out)
        parts = {  # column by column, as sums had the digits on record
            split: np.asfortranarray(values[np.sort(chosen)]) for split, chosen in rows.items()
        }
        scaling = fit_scaling(lambda: [parts["train"]], str(path))
        return {
            split: SplitData(scaling.of(x).astype("<f4"), scalings={"x": scaling})
            for split, x in parts.items()
        }


def _build_red_wine(settings: Mapping[str, object]) -> Dataset:
    options = parse_options(RedWineOptions, "red_wine", settings)
    url = f"https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/{WINE_FILE}"
    return RedWine(
        name="red_wine",
        family="uci_real",
        event=Real((WINE_COLUMNS,)),
        unit="nats",
        files=(
            RawFile(
                WINE_FILE,
                "4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e",
                84197,  # at least: the published file has 84,199, and "2.0" where others have "2"
                url,
                equals=("38cb54f15a085ae1cb8595ea3d9ec9e9ce0482d907e7c370d4bf40db6158edc8",),
            ),
        ),
        provenance=(
            f"{url}; the score dropped; ten folds of a permutation by seed {FOLD_SEED}, fold "
            f"{options.fold} is test, the next one valid; standardised by the training rows"
        ),
        options=options,
        published_name="red-wine",
        num_folds=NUM_FOLDS,
    )


DATASETS = {"red_wine": _build_red_wine}
