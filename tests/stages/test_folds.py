"""Stage `folds`: every fold trains and tests, a killed run keeps what is finished."""

import re
import statistics
import sys

import pytest

import arcore
from arcore.events import Real
from arcore.units import nats_to_bits_per_dim
from tests.places import MIRROR

ENTRY = {
    "dataset": "red_wine",
    "model": "rnade",
    "model_overrides": {"hidden": 8, "components": 2},
    "trainer": {"max_epochs": 1},
    "evaluation": {"num_samples": 4},
}


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(not (MIRROR / "uci_real").is_dir(), reason=f"no data mirror at {MIRROR}")
def test_ten_folds_and_a_row_in_the_report(make_project) -> None:
    project = make_project({"wine": ENTRY})
    published = {"model": "RNADE", "variant": "MoG"}
    folds = {"wine": {"dataset": "red_wine", "model": "rnade", "published": published}}
    project.edit_params(lambda params: params.update(folds=folds))
    fetched = project.stage("fetch", "red_wine", ARCORE_MIRROR=str(MIRROR))
    assert fetched.returncode == 0, fetched.stderr

    with project.running(r"wine, fold 1: test", "folds", "wine"):
        pass  # killed when the block ends
    assert not list((project.folder / "evaluation").glob("[!.]*/[!.]*"))
    homes = project.folder / ".arcore/folds/wine"
    assert (homes / "0/models/wine/model.safetensors").is_file()
    done = project.stage("folds", "wine")
    assert done.returncode == 0, done.stderr
    assert not re.search(r"wrote .*/folds/wine/[01]/models", done.stderr), "finished folds are kept"
    assert not homes.exists()

    metrics = project.json("evaluation/red_wine/wine-folds/metrics.json")
    rows = project.rows("evaluation/red_wine/wine-folds/folds.csv")
    nats = [float(row["nats"]) for row in rows]
    assert len(nats) == 10 == metrics["num_folds"] and metrics["num_rows"] == 1599
    assert len(set(nats)) == 10
    assert metrics["nats"] == pytest.approx(statistics.mean(nats))
    assert metrics["nats_stderr"] == pytest.approx(statistics.stdev(nats) / 10**0.5)
    bits = nats_to_bits_per_dim(metrics["nats"], Real((11,)))
    assert metrics["bits_per_dim"] == pytest.approx(bits)

    kept = project.run(sys.executable, "-m", "reproductions.results", "--folds", "wine")
    assert kept.returncode == 0, kept.stderr
    drawn = arcore.load(project.folder / "results/wine-folds/fold-9").sample(3)
    assert drawn.shape == (3, 11)
    again = project.stage("rescore", "wine-folds")
    assert again.returncode == 0 and "(+0.0e+00)" in again.stdout, again.stderr

    for stage, *arguments in (("preprocess", "red_wine"), ("codecs", "red_wine"),
                              ("report", "red_wine")):  # fmt: skip
        ran = project.stage(stage, *arguments)
        assert ran.returncode == 0, ran.stderr
    table = (project.folder / "reports/red_wine/table.md").read_text()
    assert "one for each of 10 folds" in table and "| 9.36 (unconfirmed) |" in table
    assert "RNADE (MoG): Uria et al. 2013, Table 1" in table
