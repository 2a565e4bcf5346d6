"""Fetching: sources, checksums, and what happens without a network."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from arcore.events import Binary
from pipeline.core.errors import UserError
from pipeline.data import fetching, preprocessing
from pipeline.datasets import catalog
from pipeline.datasets.base import RawFile
from pipeline.datasets.options import Options
from pipeline.datasets.tables.binary_vectors import BinaryVectors
from tests.support.served_folder import QuietHandler, served

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
DEAD = "http://127.0.0.1:9/nothing"  # the discard port: refused at once


def make_dataset(url: str | None = None, system_folders: tuple[str, ...] = ()) -> BinaryVectors:
    file = RawFile("toy.data", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), url)
    return BinaryVectors(
        name="toy",
        family="toys",
        event=Binary((3,)),
        unit="nats",
        files=(file,),
        provenance="test",
        options=Options(),
        system_folders=system_folders,
    )


class Handler(QuietHandler):
    cut = False

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.cut else body)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "my mirror"
    (folder / "toys").mkdir(parents=True)
    Handler.cut = False
    with served(folder, Handler) as address:
        yield address, folder


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def assert_fetched(workdir: Path) -> None:
    folder = workdir / "data/raw/toy"
    assert (folder / "toy.data").read_bytes() == CONTENT
    assert sorted(path.name for path in folder.iterdir()) == ["source.json", "toy.data"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["folder", "file", "http", "public"])
def test_mirror(workdir: Path, server, monkeypatch, kind: str, compressed: bool) -> None:
    address, folder = server
    name, body = ("toy.data.gz", gzip.compress(CONTENT, 1)) if compressed else ("toy.data", CONTENT)
    (folder / "toys" / name).write_bytes(body)
    (workdir / "empty").mkdir()
    mirrors = {"folder": folder, "file": folder.as_uri(), "http": address + "/", "public": "empty"}
    monkeypatch.setenv("ARCORE_MIRROR", str(mirrors[kind]))
    fetching.fetch(make_dataset(f"{address}/toys/{name}" if kind == "public" else DEAD))
    assert_fetched(workdir)


@pytest.mark.parametrize("body", [CONTENT, b"other", CONTENT + b"more"])
def test_what_a_download_does_not_give_whole_is_discarded(workdir, server, body: bytes) -> None:
    address, folder = server
    (folder / "toy.data").write_bytes(body)
    Handler.cut = body == CONTENT
    got = hashlib.sha256(body).hexdigest()
    wrong = f"wrong checksum.*{hashlib.sha256(CONTENT).hexdigest()}, got {got}|too large"
    problem = "no connection, or it was cut" if Handler.cut else wrong
    wanted = f"cannot fetch toy.data of toy: tried {address}/toy.data .({problem})"
    with pytest.raises(UserError, match=wanted):
        fetching.fetch(make_dataset(f"{address}/toy.data"))
    assert list((workdir / "data/raw/toy").iterdir()) == []


def test_verified_file_is_kept_without_asking_anyone(workdir: Path) -> None:
    target = put(workdir / "data/raw/toy/toy.data", CONTENT)
    before = target.stat()
    fetching.fetch(make_dataset(DEAD))
    assert_fetched(workdir)
    after = target.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("folder", ["data/raw/toy", "debian"])
def test_a_gz_file_of_the_user_or_the_system_is_unpacked(workdir: Path, folder: str) -> None:
    put(workdir / folder / "toy.data.gz", gzip.compress(CONTENT, 1))
    fetching.fetch(make_dataset(DEAD, system_folders=(str(workdir / "debian"),)))
    assert_fetched(workdir)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("toy.data", CONTENT[:-1]),
        ("toy.data.gz", gzip.compress(CONTENT[1:], 1)),
        ("toy.data.gz", gzip.compress(CONTENT, 1)[:-100]),
    ],
)
def test_a_wrong_file_placed_by_hand_is_not_used(workdir, server, name: str, body: bytes) -> None:
    placed = put(workdir / "data/raw/toy" / name, body)
    with pytest.raises(UserError, match=f"{name} .(wrong checksum for toy.data|truncated or dama)"):
        fetching.fetch(make_dataset(DEAD))
    address, folder = server
    (folder / "toy.data").write_bytes(CONTENT)
    fetching.fetch(make_dataset(f"{address}/toy.data"))
    assert (placed.parent / "toy.data").read_bytes() == CONTENT


@pytest.mark.parametrize("url", [DEAD, None])
def test_without_network_one_line_says_where_to_put_the_file(workdir: Path, url) -> None:
    with pytest.raises(UserError) as raised:
        fetching.fetch(make_dataset(url))
    message = str(raised.value)
    assert "\n" not in message
    for part in ("toy.data of toy", "put the file at data/raw/toy/toy.data", "ARCORE_MIRROR"):
        assert part in message
    assert (url or "no public address is known") in message


def test_a_folder_that_cannot_be_read_is_passed_over(workdir, server, monkeypatch) -> None:
    address, folder = server
    (folder / "toy.data").write_bytes(CONTENT)
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if path.parent == workdir / "debian":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(UserError, match=r"tried .*debian/toy\.data \(.*Permission denied"):
        fetching.fetch(make_dataset(None, (str(workdir / "debian"),)))
    fetching.fetch(make_dataset(f"{address}/toy.data", (str(workdir / "debian"),)))
    assert_fetched(workdir)


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ("/no/such/folder", "expected an existing folder"),
        ("http://[::1", "expected a folder or an address"),
        ("ftp://me:hunter2@host/x", "expected .*, got 'ftp://host/x'"),
    ],
)
def test_bad_mirror(workdir: Path, monkeypatch, mirror: str, message: str) -> None:
    monkeypatch.setenv("ARCORE_MIRROR", mirror)
    with pytest.raises(UserError, match=f"ARCORE_MIRROR: {message}"):
        fetching.fetch(make_dataset(DEAD))


def test_raw_files_of_other_datasets_are_reused(workdir: Path, monkeypatch) -> None:
    dataset = make_dataset(DEAD)
    put(workdir / "data/raw/dna/toy.data", b"wrong ones are passed over")
    with pytest.raises(UserError, match="cannot fetch"):
        fetching.fetch(dataset)
    put(workdir / "data/raw/dna/toy.data", CONTENT)
    fetching.fetch(dataset)
    assert_fetched(workdir)


def test_source_json_is_deterministic(workdir: Path) -> None:
    digits = catalog.get_dataset({"name": "digits"})
    marker = fetching.fetch(digits) / "source.json"
    first = marker.read_bytes()
    assert json.loads(first) == {"dataset": "digits", "source": "embedded", "files": {}}
    assert (fetching.fetch(digits) / "source.json").read_bytes() == first


def test_verify_raw_says_truncated_or_altered(workdir: Path) -> None:
    dataset = make_dataset(DEAD)
    target = workdir / "data/raw/toy/toy.data"
    with pytest.raises(UserError, match="toy.data: file not found; run python -m stages.fetch toy"):
        fetching.verify_raw(dataset)
    for wrong in (CONTENT[:-1], CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])):
        put(target, wrong)
        with pytest.raises(UserError, match="toy.data: wrong checksum"):
            fetching.verify_raw(dataset)
    target.write_bytes(CONTENT)
    assert fetching.verify_raw(dataset) == Path("data/raw/toy")


def test_the_copy_of_a_file_of_ones_own_follows_it(workdir, monkeypatch) -> None:
    put(workdir / "mirror/mine/y.csv", b"of another\n")
    monkeypatch.setenv("ARCORE_MIRROR", str(workdir / "mirror"))
    text = "a,b\n" + "".join(f"{i},{i * i}.5\n" for i in range(40))
    config = {"name": "mine", "kind": "csv", "path": "y.csv"}
    for edited in (text, text[:-4], text.replace("9", "8"), text + "3,4\n"):
        Path("y.csv").write_text(edited)
        dataset = catalog.get_dataset(config)
        if edited != text:
            with pytest.raises(UserError, match=r"^y\.csv: changed since it was fetched; run "):
                preprocessing.preprocess(dataset)
        fetching.fetch(dataset)
        assert Path("data/raw/mine/y.csv").read_text() == edited
        preprocessing.preprocess(dataset)


def test_home_elsewhere(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCORE_HOME", str(workdir / "home"))
    (workdir / "elsewhere").mkdir()
    monkeypatch.chdir(workdir / "elsewhere")
    folder = fetching.fetch(catalog.get_dataset({"name": "digits"}))
    assert folder == workdir / "home/data/raw/digits" and (folder / "source.json").is_file()


def test_a_gzip_bomb_is_not_unpacked_beyond_the_size_on_record(workdir, monkeypatch) -> None:
    """What is unpacked is written nowhere once it is larger than the file can be."""
    bomb = gzip.compress(bytes(30_000_000), compresslevel=9)
    assert len(bomb) < 40_000
    put(workdir / "mirror/toys/toy.data.gz", bomb)
    monkeypatch.setenv("ARCORE_MIRROR", str(workdir / "mirror"))
    largest = 0

    def written(*arguments: object) -> int:
        nonlocal largest
        paths = workdir.rglob("*.part")
        largest = max([largest, *(path.stat().st_size for path in paths if path.exists())])
        return 0

    monkeypatch.setattr(fetching.tqdm, "update", written)
    with pytest.raises(UserError, match="too large for toy.data: expected 3000000 bytes, got more"):
        fetching.fetch(make_dataset())
    assert 0 < largest <= 4_000_000
    assert list((workdir / "data/raw/toy").iterdir()) == []


def test_passwords_of_a_mirror_are_not_shown(workdir, monkeypatch, caplog) -> None:
    monkeypatch.setenv("ARCORE_MIRROR", "http://me:hunter2@127.0.0.1:9/x?token=hunter2")
    with pytest.raises(UserError) as caught:
        fetching.fetch(make_dataset("http://127.0.0.1:9/toy.data?signature=hunter2"))
    assert "http://127.0.0.1:9/" in str(caught.value)
    assert "hunter2" not in str(caught.value) + caplog.text
