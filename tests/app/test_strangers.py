"""Requests of strangers to the served page: other files of the machine, uploads, captions, others' images."""

import hashlib
import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from gradio.data_classes import ImageData
from PIL import Image

from stackgan.app import server
from stackgan.app.tabs.photo import photo_input
from stackgan.generation.image_settings import read_png
from stackgan.pipeline import StackGANPipeline
from tests.app.browser import launched

SECRET = "content of another file"
LIMIT = 200_000  # bytes of an upload


@pytest.fixture(scope="module")
def served(able: StackGANPipeline) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "MAX_UPLOAD", LIMIT)
        with launched(able) as url:
            yield url


@pytest.fixture
def client(served: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served, trust_env=False, timeout=60) as client:
        yield client


def _get(url: str, path: str) -> tuple[int, bytes]:
    """The response to exactly this path; httpx would resolve ``..`` before it asks."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _result(client: httpx.Client, name: str, data: list[Any]) -> tuple[str, Any]:
    """Kind and data of the last event of a call of the API."""
    event = client.post(f"/gradio_api/call/{name}", json={"data": data}).raise_for_status().json()["event_id"]
    lines = client.get(f"/gradio_api/call/{name}/{event}").text.strip().splitlines()
    return lines[-2].removeprefix("event: "), json.loads(lines[-1].removeprefix("data: "))


def _upload(client: httpx.Client, name: str, content: bytes) -> httpx.Response:
    return client.post("/gradio_api/upload", files={"files": (name, content)})


def test_no_file_beyond_the_served_folders(served: str, client: httpx.Client, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    upload = Path(_upload(client, "a.txt", b"mine").raise_for_status().json()[0])
    link = upload.with_name("link.txt")
    link.symlink_to(secret)
    folder, up = upload.parent.parent, "../" * 12
    files = [
        str(secret), f"/{secret}", f"/./{secret}", f"{folder}/{up}{secret}", f"{upload.parent}/{up}{secret}",
        f"{up}{secret}", os.path.relpath(secret), f"file://{secret}", f"{upload}/{up}{secret}", f"{upload}\0{secret}",
        str(link), str(folder), str(upload.parent), "pyproject.toml", "stackgan/app/server.py", "/etc/passwd",
        "/proc/self/environ", "~/.bashrc", "C:\\Windows\\win.ini", "\\\\host\\share\\file", "", ".", "..",
    ]  # fmt: skip
    routes = ["/gradio_api/file=", "/gradio_api/file/", "/file=", "/static/", "/assets/", "/custom_component/", "/"]
    for route in routes:
        for file in files:
            for quoted in (_quoted(file), _quoted(file, dots=True), _quoted(_quoted(file, dots=True))):
                status, body = _get(served, route + quoted)
                assert SECRET.encode() not in body, route + quoted
                assert b"root:" not in body and b"build-backend" not in body, route + quoted
                assert status >= 300 or route == "/", f"{status}: {route + quoted}"
    assert _get(served, f"/gradio_api/file={upload}") == (200, b"mine")


def _quoted(path: str, *, dots: bool = False) -> str:
    """Percent-encoded as far as a request needs it; with ``dots`` also points and slashes."""
    special = "%./\\:" if dots else "%\\ "
    return "".join(f"%{ord(sign):02x}" if sign in special or not sign.isprintable() else sign for sign in path)


def test_an_endpoint_takes_no_file_of_the_server(client: httpx.Client, tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.new("RGB", (80, 80), "red").save(photo)
    for path in (str(photo), "/etc/passwd", f"../../../{photo}"):
        kind, _ = _result(client, "edit", [{"path": path, "meta": {"_type": "gradio.FileData"}}, "a red bird", ""])
        assert kind == "error", path


def test_uploads_are_limited_and_never_shown_as_pages(client: httpx.Client, served: str) -> None:
    refused = _upload(client, "large.png", bytes(LIMIT + 1))
    assert refused.status_code == 413 and "maximum allowed size" in refused.text
    page = b"<script>alert(1)</script>"
    for name in ("page.html", "drawing.svg", "page.png.htm", "a.xml", "../../../../outside.html", "..", "x" * 300):
        response = _upload(client, name, page)
        if response.status_code != 200:
            assert response.status_code < 500, name
            continue
        path = Path(response.json()[0])
        assert path.read_bytes() == page and Path(os.environ["GRADIO_TEMP_DIR"]) in path.resolve().parents
        shown = client.get(f"/gradio_api/file={path}").raise_for_status()
        assert shown.headers["content-disposition"].startswith("attachment"), name
        assert shown.headers["content-type"] == "application/octet-stream", name


def test_a_photo_is_opened_by_one_function_only(client: httpx.Client, tmp_path: Path) -> None:
    """The component passes the file on as it came; a harmful one leaves the page as it was."""
    component = photo_input("Photo", "photo")
    for name in ("drawing.svg", "bomb.png", "transparent.png"):
        (tmp_path / name).write_bytes(b"anything")
        payload = ImageData(path=str(tmp_path / name), orig_name=name)
        assert component.preprocess(payload) == str(tmp_path / name)
    assert component.preprocess(None) is None
    path = _upload(client, "a.png", b"\x89PNG\r\n\x1a\n" + bytes(50)).json()[0]
    photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert _result(client, "edit", [photo, "a red bird", ""])[0] == "error"
    Image.new("RGB", (80, 80), "red").save(tmp_path / "b.png")
    photo["path"] = _upload(client, "b.png", (tmp_path / "b.png").read_bytes()).json()[0]
    kind, data = _result(client, "edit", [photo, "a red bird", ""])
    assert kind == "complete" and [Path(file["path"]).name for file in data[0]] == ["0_reconstruction.png"]


CAPTIONS = {
    "html": "<img src=x onerror=alert(1)> <b>bird</b> & {{value}} ${alert(2)}",
    "right to left": "\u202ea red bird\u202c \u05e6\u05d9\u05e4\u05d5\u05e8",
    "combining": "a" + "\u0301" * 1000 + " bird",
}


@pytest.mark.parametrize("caption", CAPTIONS.values(), ids=CAPTIONS)
def test_any_caption_is_text(client: httpx.Client, caption: str) -> None:
    kind, data = _result(client, "paint", [caption, 1, 0, None, None, 0, 0, ""])
    assert kind == "complete", data
    files, details = data
    assert details["caption"] == " ".join(caption.split())
    name = Path(files[0]["path"]).name
    assert name.isascii() and name.isprintable() and "<" not in name
    assert read_png(files[0]["path"]).caption == details["caption"]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("x" * 100_000, "The caption is 100000 characters long"),
        ("a red\0 bird", "control character U+0000"),
        ("a \x1b[31mred bird", "control character U+001B"),
    ],
)
def test_captions_that_cannot_be_used_are_refused_in_words(client: httpx.Client, caption: str, words: str) -> None:
    kind, data = _result(client, "paint", [caption, 1, 0, None, None, 0, 0, ""])
    assert kind == "error" and words in data["error"]


@pytest.mark.parametrize("route", ["call/{}", "call/v2/{}", "run/{}"])
@pytest.mark.parametrize("name", ["nothing", "paints", "<script>", "%00", "a" * 5000])
def test_an_unknown_endpoint_is_refused_in_words(client: httpx.Client, route: str, name: str) -> None:
    answer = client.post("/gradio_api/" + route.format(name), json={"data": ["a bird"]})
    assert answer.status_code in (404, 422), answer.text
    assert answer.headers["content-type"].startswith("application/json")
    if answer.status_code == 404:
        assert "no such endpoint" in answer.json()["error"]


@pytest.mark.parametrize("number", [-1, 10**6, None, "x"])
def test_an_unknown_event_is_refused_in_words(client: httpx.Client, number: object) -> None:
    asked = {"data": [], "fn_index": number, "session_hash": "x"}
    answer = client.post("/gradio_api/queue/join", json=asked)
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)


def test_an_image_is_found_by_those_who_know_its_address(client: httpx.Client) -> None:
    """Which cannot be guessed from the file; and no folder is listed."""
    _, (files, _) = _result(client, "paint", ["a red bird", 1, 5, None, None, 0, 0, ""])
    file = Path(files[0]["path"])
    assert len(file.parent.name) == 64 and hashlib.sha256(file.read_bytes()).hexdigest() != file.parent.name
    assert client.get(f"/gradio_api/file={file}").content == file.read_bytes()
    for other in (file.parent, file.parent.parent, file.parent.with_name("0" * 64) / file.name):
        assert client.get(f"/gradio_api/file={other}").status_code in (403, 404)
