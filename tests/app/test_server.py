"""Address, login, root path and MCP of the server; start and stop without them are tested with the page."""

import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from stackgan.app import server
from stackgan.app.page import build
from stackgan.app.server import address, launch, read_users, serve
from stackgan.pipeline import StackGANPipeline
from tests.app.browser import free_port
from tests.tiny import CAPTIONS, save_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("port", [0, 70000])
def test_refuses_a_port_before_it_looks_at_the_checkpoint(port: int) -> None:
    with pytest.raises(ValueError, match=f"^--port {port}: ports are from 1 to 65535$"):
        serve("no such checkpoint", port=port)


def test_a_refused_address_imports_neither_gradio_nor_torch() -> None:
    script = """
import sys
from stackgan.cli.app import main
print(main(["--checkpoint", "none", "--port", "0"]), {"gradio", "torch"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "2 set()\n"


def test_the_address_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SYSTEM", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert address() == ("127.0.0.1", 7860)
    monkeypatch.setenv("SYSTEM", "spaces")
    assert address() == ("0.0.0.0", 7860)
    monkeypatch.setenv("GRADIO_SERVER_NAME", "::1")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "8123")
    assert address() == ("::1", 8123)
    assert address("127.0.0.1", 80) == ("127.0.0.1", 80)


def test_users_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_bytes("\ufeffann:a:b\r\n\r\n bob : c\n".encode())
    assert read_users(auth_file=file) == [("ann", "a:b"), ("bob", " c")]
    assert read_users() == []


def test_a_space_with_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It listens on all networks, generates nothing without a login, and after one it generates."""
    folder, users, port = save_tiny_checkpoint(tmp_path / "tiny", stages=1), tmp_path / "users", free_port()
    users.write_text("ann:secret\nbob:other\n")
    monkeypatch.setattr(sys, "argv", ["app.py", "--checkpoint", str(folder), "--auth-file", str(users)])
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)  # of this process too
    for name, value in {"SYSTEM": "spaces", "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": ""}.items():
        monkeypatch.setenv(name, value)  # the program sets the last one
    for name in ("GRADIO_SERVER_NAME", *server.STATISTICS):  # the program sets the latter
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    answers = []

    def visit() -> None:
        """Called where the program waits for a signal: when this returns, the server stops."""
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            data = {"data": ["a red bird", 1, 0, None, None, 0, 0, ""]}
            assert client.post("/gradio_api/call/paint", json=data).status_code == 401
            assert client.get(f"/gradio_api/file={tmp_path}").status_code == 401
            assert client.get("/image?caption=a+bird").status_code == 401
            assert client.post("/live", content="caption=a+bird").status_code == 401
            assert client.post("/login", data={"username": "ann", "password": "other"}).status_code == 400
            assert client.post("/login", data={"username": "bob", "password": "other"}).status_code == 200
            event = client.post("/gradio_api/call/paint", json=data).raise_for_status().json()["event_id"]
            answers.append(client.get(f"/gradio_api/call/paint/{event}").text)
            assert client.get("/image?caption=a+bird").headers["content-type"] == "image/png"
            assert client.post("/live", content="caption=a+bird").json()["images"]
            summary = client.get("/monitoring/summary").raise_for_status().json()
            assert summary == {"functions": {}}, "computed after each event, of all before"
            forged = dict.fromkeys(client.cookies, "0")
            assert httpx.get(f"{client.base_url}/image?caption=a", cookies=forged, trust_env=False).status_code == 401

    monkeypatch.setattr(server, "_wait_for_signal", visit)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
    assert not end.value.code
    assert capsys.readouterr().out == f"Page at http://0.0.0.0:{port} (Ctrl-C stops)\n"
    assert len(answers) == 1 and "event: complete" in answers[0]


def test_the_state_of_visitors_is_bounded(pipe: StackGANPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SESSIONS", 3)
    page = build(pipe)
    launch(page, "127.0.0.1", free_port())
    try:
        with httpx.Client(base_url=str(page.local_url), trust_env=False, timeout=60) as client:
            for seed in range(8):  # each without a session, thus in one of its own
                data = {"data": ["a red bird", 1, seed, None, 64, 0, 0, ""]}
                event = client.post("/gradio_api/call/paint", json=data).raise_for_status().json()["event_id"]
                assert "event: complete" in client.get(f"/gradio_api/call/paint/{event}").text
        assert 1 <= len(page.app.state_holder.session_data) <= 3
    finally:
        page.close(verbose=False)


def test_behind_a_proxy_all_requests_are_below_the_public_path(pipe: StackGANPipeline, chromium: Browser) -> None:
    """The browser's requests are sent on without the path, as by a reverse proxy; any other one fails."""
    page, context = build(pipe), chromium.new_context()
    launch(page, "127.0.0.1", free_port(), root_path="/birds")
    origin, failed = str(page.local_url).rstrip("/"), []

    def send_on(route: Route) -> None:
        if route.request.url.startswith(f"{origin}/birds"):
            route.continue_(url=route.request.url.replace("/birds", "", 1))
        elif route.request.url.startswith("data:"):
            route.continue_()
        else:
            failed.append(route.request.url)
            route.abort()

    try:
        tab = context.new_page()
        tab.route("**/*", send_on)
        tab.goto(f"{origin}/birds/")
        for caption, title in ((CAPTIONS[2], "Live"), (CAPTIONS[3], "4 images in")):
            tab.locator("#caption textarea").fill(caption)
            if title != "Live":
                tab.locator("#paint").click()
            expect(tab.locator(".results:not(.preview) h2")).to_contain_text(title)
            expect(tab.locator(".card .caption").first).to_have_text(caption)
        assert failed == []
    finally:
        context.close()
        page.close(verbose=False)


@pytest.mark.skipif(find_spec("mcp") is None, reason="needs the package mcp, of the extra mcp")
def test_the_pages_functions_are_tools_of_the_model_context_protocol(pipe: StackGANPipeline) -> None:
    page = build(pipe)
    launch(page, "127.0.0.1", free_port(), mcp=True)
    try:
        with httpx.Client(base_url=str(page.local_url), trust_env=False, timeout=60) as client:
            names = {tool["name"] for tool in client.get("/gradio_api/mcp/schema").raise_for_status().json()}
    finally:
        page.close(verbose=False)
    assert "paint" in {name.rpartition("_")[2] for name in names}
