"""Pages in a real browser: what a reader sees at the width of a telephone and of a laptop."""

import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from pipeline.reporting import comparison, search_page
from tests.support import reports

pytestmark = pytest.mark.browser
RECORDED = Path(__file__).parents[3] / "results" / "searches"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# An iframe, since the window of a headless Chromium is at least 500 pixels wide.
FRAME = """<body style="margin:0"><iframe id="page" width="{width}" height="900" style="border:0"
srcdoc="{page}"></iframe><script>
const firsts = page => page.querySelector("tbody th").textContent.slice(-2);
const sorted = page => {{
  const title = page.querySelector("thead th:nth-of-type(2) button");
  title.click();
  const up = firsts(page);
  title.click();
  return up + firsts(page);
}};
const filtered = page => {{
  const field = page.querySelector("input[type=search]");
  field.value = "{word}";
  field.dispatchEvent(new Event("input"));
  return [...page.querySelector("tbody").rows].filter(row => !row.hidden).length;
}};
const shown = node => node.getClientRects().length > 0;
const fonts = page => new Set([...page.querySelectorAll("body *:not(code)")]
  .filter(node => shown(node) && !node.childElementCount && node.textContent.trim())
  .map(node => getComputedStyle(node).fontFamily)).size;
const cut = page => [...page.querySelectorAll(".scroll")]
  .filter(one => shown(one) && one.scrollWidth > one.clientWidth).length;
const empty = page => [...page.querySelectorAll("table")].reduce((count, table) => count
  + [...table.tHead.rows[0].cells].filter((_, at) => at && [...table.tBodies[0].rows]
    .every(row => ["", "-"].includes(row.cells[at].textContent.trim()))).length, 0);
onload = () => {{
  const page = document.getElementById("page").contentDocument;
  const last = name => page.querySelector(`table tbody tr ${{name}}`).getBoundingClientRect();
  document.title = [
    page.documentElement.scrollWidth,
    last("td").right,
    last("td:nth-of-type(3)").right,
    getComputedStyle(page.querySelector("tbody th")).position,
    [...page.images].every(image => image.naturalWidth > 0)
      && [...page.querySelectorAll(".chart")].every(chart => chart.querySelector(".trace")),
    last("th").height,
    page.querySelectorAll(".chart .main-svg text").length,
    fonts(page),
    cut(page),
    empty(page),
    sorted(page),
    filtered(page),
  ].join(" ");
}};
</script>"""


def looked_at(page: str, word: str, width: int, folder: Path) -> list[str]:
    """Width of the page, right ends of score and difference, the first column's position, ..."""
    if BROWSER is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    (folder / "plotly.min.js").write_text(get_plotlyjs())
    frame = folder / f"{width}.html"
    frame.write_text(FRAME.format(width=width, page=escape(page), word=word))
    ran = subprocess.run(
        [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
            f"--user-data-dir={folder}/profile", "--virtual-time-budget=10000",
            f"--screenshot={folder}/{width}.png", f"--window-size={width},900", frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"<title>(.*?)</title>", ran.stdout)
    assert found is not None, ran.stdout[:500] + ran.stderr[-500:]
    return found.group(1).split()


def report(files) -> str:
    files.manifest("binarized_mnist", "binarized_mnist")
    one = {"model": "MADE", "variant": "1hl, 1 mask"}
    for index in range(17):
        name = f"binarized_mnist-a_long_name_of_a_model-{index}"
        device = "cpu (Intel(R) Xeon(R) Processor @ 2.20GHz of many words, 1 thread)"
        files.evaluated("binarized_mnist", name, 88.0 + index, counterpart=one, device=device)
    return reports.page(comparison.build_report("binarized_mnist"))


def search(files) -> str:
    folder = Path(shutil.copytree(RECORDED / "binarized_mnist-made-small", "searches/one"))
    (folder / "curves.csv").write_text("trial,epoch,best_valid_nats\n3,1,99.9\n3,30,89.9\n")
    return search_page.write(folder).read_text().replace("../plotly", "plotly")


@pytest.mark.parametrize(
    ("build", "word", "moved"), [(report, "MODEL-7", "-016 1"), (search, "spiral", "3411 3")]
)
@pytest.mark.parametrize("width", [390, 1280, 1440])
def test_scores_are_in_sight(files, build, word, moved, width, tmp_path_factory) -> None:
    seen = looked_at(build(files), word, width, tmp_path_factory.mktemp("browser"))
    whole, score, difference, position, drawn, height, labels = seen[:7]
    fonts, cut, empty, sorted_, filtered = seen[7:]
    assert float(whole) <= width, "the page itself does not scroll sideways"
    assert float(score) <= width
    assert width < 1280 or float(difference) <= width
    assert (position, drawn) == ("sticky", "true") and float(height) < 100
    assert int(labels) >= 17, "the chart names each row"
    assert (fonts, empty) == ("1", "0") and (width < 1440 or cut == "0")
    assert f"{sorted_} {filtered}" == moved
