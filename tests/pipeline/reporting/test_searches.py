"""Pages of searches, of the searches that `results/` keeps."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.reporting import search_page
from stages import pages

RECORDED = Path(__file__).parents[3] / "results" / "searches"
NAMES = sorted(path.name for path in RECORDED.iterdir())


@pytest.fixture
def copied(home: Path) -> Path:
    shutil.copytree(RECORDED, home / "searches")
    return home


def page_of(folder: Path) -> str:
    search_page.write(folder)
    return (folder / "index.html").read_text()


def test_every_search_has_a_page_and_the_index_leads_to_it(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pages"])
    pages.main()
    written = [copied / "searches" / name / "index.html" for name in NAMES]
    assert capsys.readouterr().out.split() == list(map(str, written))
    index = (copied / "reports/index.html").read_text()
    assert "<h2>Searches</h2>" in index and "<h2>Studies</h2>" not in index
    for name, path in zip(NAMES, written, strict=True):
        text, record = path.read_text(), json.loads(path.with_name("search.json").read_text())
        assert f'href="../searches/{name}/index.html"' in index
        assert f"{record['trials']} trials of {record['model']} on {record['dataset']}" in text
        assert f"trial {record['best_trial']}: {record['best_valid_nats']:.2f} validation" in text
        command = record.get("command", f"python -m stages.tune {name}")
        assert f"{command}</code>" in text and record["commit"] in text
        header = path.with_name("trials.csv").read_text().splitlines()[0]
        charts = len(set(re.findall(r"\w+\.[\w.]+", header)) - {"trainer.seed"})
        assert text.count('class="chart"') == charts + ("sampling_seconds" in header)


def test_two_objectives_have_a_column_of_shares_each(copied: Path) -> None:
    folder = copied / "searches/tones-wavenet-sampling"
    text = page_of(folder)
    shares = (folder / "importance.csv").read_text().splitlines()[1].split(",")
    assert '<th scope="col">sampling seconds</th>' in text
    assert all(f'<td class="number">{float(share):.2f}</td>' in text for share in shares[1:])


def test_trials_that_came_out_alike_have_no_shares(copied: Path) -> None:
    folder = copied / "searches/digits-nade-orderings"
    (folder / "importance.csv").write_text("parameter,importance\n")
    assert "Share of each parameter" not in page_of(folder)


def test_a_trial_that_was_stopped_before_it_was_validated_is_left_out(copied: Path) -> None:
    folder = copied / "searches/digits-nade-orderings"
    path = folder / "trials.csv"
    header, *rows = path.read_text().splitlines()
    number, _, _, _, *values = rows[-1].split(",")
    stopped = ",".join([str(int(number) + 1), "stopped", "0", "", *values])
    before = page_of(folder)
    path.write_text("\n".join([header, *rows, stopped]) + "\n")
    assert page_of(folder) == before


def test_a_search_with_overrides_is_no_command_of_its_name(copied: Path) -> None:
    folder = copied / "searches/digits-nade-orderings"
    record = json.loads((folder / "search.json").read_text()) | {
        "search": "a--num_trials-4",
        "command": "",
        "device": "",
    }
    (folder / "search.json").write_text(json.dumps(record))
    text = page_of(folder)
    assert "python -m stages.tune" not in text and "not recorded" in text


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("search.json", "{}", r"search\.json: missing search"),
        ("trials.csv", "trial,best_valid_nats\n16,94.6\n", "expected the record of trials.csv"),
        ("trials.csv", "", r"trials\.csv: expected a table of trials, got no row"),
        ("trials.csv", "trial\n", r"trials\.csv: expected a table of trials, got no row"),
        ("trials.csv", "trial,status\n1\n", r"trials\.csv: expected a table of trials, got rows"),
        ("trials.csv", "trial\n1,2\n", r"trials\.csv: expected a table of trials, got rows"),
        ("trials.csv", "number\n1\n", r"trials\.csv: expected a table of trials, got no column"),
        ("importance.csv", "parameter,importance\na,1\n", "importance.csv: expected shares"),
        ("importance.csv", "parameter,importance\nmodel.ordering,x\n", "expected shares"),
        ("curves.csv", "trial,epoch,best_valid_nats\n1,x,2\n", "expected numbers of trials"),
    ],
)
def test_a_search_that_cannot_be_read_is_left_out(
    copied: Path, caplog: pytest.LogCaptureFixture, file: str, content: str, said: str
) -> None:
    folder = copied / "searches/digits-nade-orderings"
    (folder / file).write_text(content)
    for name in {*NAMES[1:]} - {folder.name}:
        shutil.rmtree(folder.with_name(name))
    with pytest.raises(UserError, match=said):
        search_page.write(folder)
    assert len(search_page.write_all()) == 1
    assert "digits-nade-orderings" in caplog.text and "left out" in caplog.text


def test_trials_come_best_first(copied: Path) -> None:
    folder = copied / "searches/digits-nade-orderings"
    text = page_of(folder)
    table = text.split("Trials, best first")[-1].split("</table>")[0]
    nats = [float(found) for found in re.findall(r'"row">([\d.]+) ± ', table)]
    assert len(nats) == 6 and nats == sorted(nats)
