"""Download of the archive: complete, resumed, rejected; all cases against a local server."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_prep.download import download, extract, fetch_cub

DATA = bytes(i * 7 % 251 for i in range(3_000_000))
MD5 = hashlib.md5(DATA).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `data`; records requests, and fails as configured."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = DATA
        self.ranges = True  # answer Range requests
        self.drop_after: list[int] = []  # for the next connections: bytes after which each is cut
        self.status: list[int] = []  # for the next connections: an error to answer with
        self.asked: list[str | None] = []  # the Range headers received
        self.url = f"http://127.0.0.1:{self.server_address[1]}/CUB_200_2011.tgz"

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken pipes are expected in these tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.server.status:
            self.send_error(self.server.status.pop(0))
            return
        data, start = self.server.data, 0
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop = self.server.drop_after.pop(0) if self.server.drop_after else len(data)
        self.wfile.write(data[start : start + stop])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(server: Server, target: Path, md5: str = MD5, attempts: int = 2) -> Path:
    return download(server.url, target, md5=md5, progress=False, timeout=10, attempts=attempts, pause=0)


def test_whole_file(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "a.tgz").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]
    fetch(server, tmp_path / "a.tgz", MD5.upper())
    assert server.asked == [None]  # an existing file is checked, not downloaded again


def test_a_broken_connection_continues_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.drop_after = [1_000_000, 500_000]
    assert fetch(server, tmp_path / "a.tgz").read_bytes() == DATA
    assert server.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_an_interrupted_run_continues_in_the_next(server: Server, tmp_path: Path) -> None:
    server.drop_after = [700_000, 0, 0]
    with pytest.raises(ValueError, match=r"ended early; 700,000 bytes are kept in a\.tgz\.part"):
        fetch(server, tmp_path / "a.tgz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz.part"]
    server.asked.clear()
    assert fetch(server, tmp_path / "a.tgz").read_bytes() == DATA
    assert server.asked == ["bytes=700000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.drop_after = [1_000_000]
    assert fetch(server, tmp_path / "a.tgz").read_bytes() == DATA
    assert server.asked == [None, "bytes=1000000-"]


def test_a_finished_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tgz.part").write_bytes(DATA)
    assert fetch(server, tmp_path / "a.tgz").read_bytes() == DATA
    assert server.asked == ["bytes=3000000-"]


def test_a_part_longer_than_the_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tgz.part").write_bytes(DATA + b"more")
    assert fetch(server, tmp_path / "a.tgz").read_bytes() == DATA
    assert server.asked == ["bytes=3000004-", None]


def test_wrong_md5_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"md5 is {MD5}, expected {'0' * 32}: not the published archive"):
        fetch(server, tmp_path / "a.tgz", "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_file_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tgz.part").write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match="not the published archive"):
        fetch(server, tmp_path / "a.tgz")
    assert fetch(server, tmp_path / "a.tgz").read_bytes() == DATA


def test_a_wrong_file_of_that_name_is_left_for_the_user(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"a\.tgz: md5 is .* delete it"):
        fetch(server, tmp_path / "a.tgz")
    assert (tmp_path / "a.tgz").read_bytes() == b"mine" and server.asked == []


def test_answers_of_the_server(server: Server, tmp_path: Path) -> None:
    server.status = [404]
    with pytest.raises(ValueError, match="the server answers 404 Not Found"):
        fetch(server, tmp_path / "a.tgz")
    server.status = [503, 503]
    with pytest.raises(ValueError, match="cannot be downloaded: the server answers 503"):
        fetch(server, tmp_path / "a.tgz")
    server.status = [503]  # a temporary error
    assert fetch(server, tmp_path / "a.tgz").read_bytes() == DATA


def test_no_server_and_no_address(server: Server, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError, match=r"cannot be downloaded: .*refused"):
        fetch(server, tmp_path / "a.tgz")
    with pytest.raises(ValueError, match="not an http or https address"):
        download("file:///etc/hostname", tmp_path / "a.tgz", md5=MD5, progress=False)
    assert list(tmp_path.iterdir()) == []


# --- unpacking ---------------------------------------------------------------------------------


def archive(entries: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in more:
            tar.addfile(info)
    return stream.getvalue()


CUB = {
    "attributes.txt": b"beside",
    "CUB_200_2011/images.txt": b"1 a/b.jpg\n",
    "CUB_200_2011/images/a/b.jpg": b"jpg",
}


def test_fetch_and_unpack(server: Server, tmp_path: Path) -> None:
    server.data = archive(CUB)
    md5 = hashlib.md5(server.data).hexdigest()
    fetch_cub(tmp_path / "new", url=server.url, md5=md5, progress=False)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["CUB_200_2011", "CUB_200_2011.tgz"]
    assert (tmp_path / "new/CUB_200_2011/images/a/b.jpg").read_bytes() == b"jpg"


def test_unpacking_fills_gaps_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(archive(CUB))
    (tmp_path / "CUB_200_2011").mkdir()
    (tmp_path / "CUB_200_2011/images.txt").write_bytes(b"mine")
    (tmp_path / ".CUB_200_2011.unpacking-1/half").mkdir(parents=True)  # left by a killed process
    extract(tmp_path / "x.tgz", tmp_path, "CUB_200_2011", progress=False)
    assert (tmp_path / "CUB_200_2011/images.txt").read_bytes() == b"mine"
    assert (tmp_path / "CUB_200_2011/images/a/b.jpg").read_bytes() == b"jpg"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CUB_200_2011", "x.tgz"]


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


REFUSED = "not unpacked: .* is a link or leads out of the folder: nothing was unpacked"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive({"CUB_200_2011/../../escaped": b"x"}), REFUSED),
        (archive({}, link("CUB_200_2011/images", "/")), REFUSED),
        (archive({}, link("CUB_200_2011/images", "../../..")), REFUSED),
        (archive({"other/file": b"x"}), "has no folder CUB_200_2011"),
        (b"no archive", "not unpacked"),
        (archive(CUB)[:-30], "not unpacked"),
    ],
)
def test_bad_archives_are_refused_and_leave_nothing(data: bytes, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "src"
    folder.mkdir(parents=True)
    (folder / "x.tgz").write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        extract(folder / "x.tgz", folder, "CUB_200_2011", progress=False)
    assert str(folder / "x.tgz") in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / "x.tgz"]
    assert [path.name for path in folder.iterdir()] == ["x.tgz"]
