"""Server of the page: loads a checkpoint and serves the page until Ctrl-C.

Gradio and PyTorch are imported after the address was checked, so that an error is reported immediately.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from stackgan.app.static_files import read_static
from stackgan.io.checkpoint_names import (
    bundled_checkpoints,
    checkpoint_title,
    default_checkpoint,
    find_checkpoint,
)

if TYPE_CHECKING:
    from fastapi import Request
    from fastapi.responses import JSONResponse

    from stackgan.app.page import Page
    from stackgan.pipeline import StackGANPipeline

SWITCH_SECONDS = 0.0005  # after which threads give way to another one: Python's 5 ms are a third of an image
SESSIONS = 300  # of visitors whose state is kept, 0.15 MB each; a request of an API client is one of its own
# Gradio computes statistics of the last 10,000 events anew after each of them: of 1,000 events, after 1,000.
STATISTICS = {"GRADIO_ANALYTICS_MAX_EVENTS": "1000", "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000"}
MAX_UPLOAD = 50 * 2**20  # bytes of a file; a camera's largest JPEG is about half of it

__all__ = ["MAX_UPLOAD", "address", "launch", "read_users", "serve", "warm_up"]


def serve(
    checkpoint: str | Path | Sequence[str | Path] = (),
    *,
    host: str | None = None,
    port: int | None = None,
    device: str | None = None,
    share: bool = False,
    auth: str | None = None,
    auth_file: str | Path | None = None,
    root_path: str | None = None,
    mcp: bool = False,
) -> None:
    """Load a checkpoint and serve the page until SIGINT (Ctrl-C) or SIGTERM; call it in the main thread.

    Args:
        checkpoint: folders or names (:func:`stackgan.io.checkpoint_names.find_checkpoint`), one or several: the
            page opens with the first, and the others can be chosen there. Empty for all bundled checkpoints, the
            default one first.
        host: address to listen on; 127.0.0.1 for this machine only, 0.0.0.0 for all its networks. None for the
            environment's (:func:`address`).
        port: 1 to 65535; None for the environment's.
        device: cpu or cuda; None for cuda if available.
        share: open a public link through Gradio's servers too; needs the internet.
        auth: ``USER:PASSWORD`` that the page asks for. Other users of the machine can read it in the list of
            processes; ``auth_file`` avoids this.
        auth_file: a file with one ``USER:PASSWORD`` on each line.
        root_path: path under which a reverse proxy serves the page, such as ``/birds``, or the page's whole URL.
        mcp: offer the page's functions as tools of the Model Context Protocol too.

    Raises:
        ValueError: the address is not available, an argument is not valid, Gradio is not installed, or the page does
            not support the checkpoint.
        FileNotFoundError: there is no checkpoint, or no file of users.
    """
    host, port = address(host, port)
    _check_address(host, port)
    users = read_users(auth, auth_file)
    _check_root_path(root_path)
    if share and os.environ.get("SYSTEM") == "spaces":
        raise ValueError("--share: a Hugging Face Space has a public address already; start it without --share")
    _check_packages(mcp)
    folders = _folders([checkpoint] if isinstance(checkpoint, (str, Path)) else checkpoint)
    with tempfile.TemporaryDirectory(prefix="stackgan-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # generated files are deleted when the server stops
        for name, value in STATISTICS.items():
            os.environ.setdefault(name, value)
        sys.setswitchinterval(SWITCH_SECONDS)
        pipe, page = _load(folders[0], _by_name(folders[1:]), device)
        launch(page, host, port, share=share, users=users, root_path=root_path, mcp=mcp)
        shown = f"[{host}]" if ":" in host else host
        try:
            if share and page.share_url is None:
                raise ValueError(
                    "--share: Gradio could not open a public link, which needs the internet; without --share the "
                    f"page is at http://{shown}:{port}"
                )
            warm_up(page, pipe, users)
            print(f"Page at http://{shown}:{port} (Ctrl-C stops)", flush=True)
            _wait_for_signal()
        finally:
            page.close(verbose=False)


def _folders(names: Sequence[str | Path]) -> list[Path]:
    """Folders of the checkpoints, the first one first; without names those of all bundled checkpoints."""
    if not names:
        names = [default_checkpoint(), *bundled_checkpoints()]
    return list(dict.fromkeys(find_checkpoint(name) for name in names))


def _by_name(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by the name to show, the whole path for one that is not unique."""
    titles = [checkpoint_title(folder) for folder in folders]
    names = [
        title if titles.count(title) == 1 else str(folder) for title, folder in zip(titles, folders, strict=True)
    ]
    return dict(zip(names, folders, strict=True))


def address(host: str | None = None, port: int | None = None) -> tuple[str, int]:
    """Host and port, each from the environment where None.

    The host is that of ``GRADIO_SERVER_NAME``, else 0.0.0.0 in a Hugging Face Space (``SYSTEM`` is ``spaces``), else
    127.0.0.1. The port is that of ``GRADIO_SERVER_PORT``, else 7860.

    Raises:
        ValueError: ``GRADIO_SERVER_PORT`` is not a number.

    >>> address("0.0.0.0", 8000)
    ('0.0.0.0', 8000)
    """
    if host is None:
        usual = "0.0.0.0" if os.environ.get("SYSTEM") == "spaces" else "127.0.0.1"  # noqa: S104 - a Space is a container
        host = os.environ.get("GRADIO_SERVER_NAME") or usual
    if port is None:
        given = os.environ.get("GRADIO_SERVER_PORT") or "7860"
        if not (given.isascii() and given.isdecimal()):
            raise ValueError(f"GRADIO_SERVER_PORT is {given!r}: ports are from 1 to 65535")
        port = int(given)
    return host, port


def read_users(auth: str | None = None, auth_file: str | Path | None = None) -> list[tuple[str, str]]:
    """Users and passwords of the page; none if neither is given. Messages contain no password.

    Args:
        auth: ``USER:PASSWORD``; the first colon separates them.
        auth_file: UTF-8, ``USER:PASSWORD`` on each line; empty lines are ignored.

    Raises:
        ValueError: both are given, an entry is not ``USER:PASSWORD``, a user is repeated, or the file has no user.
        FileNotFoundError: there is no such file.

    >>> read_users("ann:a:b")
    [('ann', 'a:b')]
    """
    if auth is not None and auth_file is not None:
        raise ValueError("--auth and --auth-file: give one of the two")
    if auth is not None:
        return [_user(auth, "--auth")]
    if auth_file is None:
        return []
    file = Path(auth_file)
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"--auth-file {file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(f"--auth-file {file}: cannot be read: {reason}") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    users = [_user(line, f"--auth-file {file}, line {number}") for number, line in lines]
    seen: set[str] = set()
    for (number, _), (name, _) in zip(lines, users, strict=True):
        if name in seen:
            raise ValueError(f"--auth-file {file}, line {number}: the user {name} is repeated")
        seen.add(name)
    if not users:
        raise ValueError(f"--auth-file {file}: no users; write USER:PASSWORD on each line")
    return users


def _user(entry: str, source: str) -> tuple[str, str]:
    name, _, password = entry.partition(":")
    if not name.strip() or not password:
        raise ValueError(f"{source}: it must be USER:PASSWORD, both not empty")
    return name.strip(), password


def _check_root_path(root_path: str | None) -> None:
    if root_path is None or root_path.startswith(("/", "http://", "https://")):
        return
    raise ValueError(f"--root-path {root_path}: it must start with / or be a URL, such as /birds")


def _check_packages(mcp: bool) -> None:
    if find_spec("gradio") is None:
        raise ValueError('the page needs the package gradio: pip install "stackgan[app]"')
    if mcp and find_spec("mcp") is None:
        raise ValueError('--mcp needs the package mcp: pip install "stackgan[app,mcp]"')


def _load(checkpoint: Path, others: Mapping[str, Path], device: str | None) -> tuple[StackGANPipeline, Page]:
    from stackgan.pipeline import StackGANPipeline
    from stackgan.runtime.allocator import keep_pages

    keep_pages()
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    from stackgan.app.page import build  # imports Gradio: after the checks that do not need it

    try:
        return pipe, build(pipe, others, device)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from None


def launch(
    page: Page,
    host: str,
    port: int,
    *,
    share: bool = False,
    users: Sequence[tuple[str, str]] = (),
    root_path: str | None = None,
    mcp: bool = False,
) -> None:
    """Serve a page with style sheet and theme from a separate thread; returns when it responds.

    Args:
        users: names and passwords that the page asks for; none for a page without a login.
        share, root_path, mcp: see :func:`serve`; Gradio prints the public link and the URL of the MCP server.

    Raises:
        ValueError: the MCP server cannot start.
    """
    from gradio.route_utils import FnIndexInferError

    from stackgan.app.direct_routes import DirectRoutes
    from stackgan.app.image_route import image_route
    from stackgan.app.live_route import live_route
    from stackgan.app.theme import theme

    direct = DirectRoutes()
    # Gradio checks that its server responds, which must not go through a proxy.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost", host]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This MCP server includes a tool that has a gr.State input")
        page.launch(
            server_name=host,
            server_port=port,
            theme=theme(),
            css=read_static("page.css"),
            footer_links=[],
            share=share,
            auth=list(users) or None,
            root_path=root_path,
            mcp_server=mcp,
            ssr_mode=False,
            pwa=False,
            max_file_size=MAX_UPLOAD,
            quiet=True,
            show_error=True,
            state_session_capacity=SESSIONS,
            app_kwargs={
                "routes": [image_route(page.pipes, direct), live_route(page.pipes, direct)],
                "exception_handlers": {FnIndexInferError: _unknown_endpoint, KeyError: _unknown_endpoint},
            },
            prevent_thread_lock=True,
        )
    if mcp and page.mcp_error:
        raise ValueError(f"--mcp: {page.mcp_error}")


def _unknown_endpoint(request: Request, error: Exception) -> JSONResponse:
    """Gradio's own answer is status 500, and a traceback in the terminal."""
    from fastapi.responses import JSONResponse

    if isinstance(error, KeyError) and not any(part in request.url.path for part in ("/call/", "/queue/join")):
        raise error
    return JSONResponse({"error": f"{request.url.path[:200]}: there is no such endpoint; /?view=api lists them"}, 404)


def warm_up(page: Page, pipe: StackGANPipeline, users: Sequence[tuple[str, str]] = ()) -> None:
    """Generate once through the page's queue, whose first event imports modules for 0.4 s."""
    import httpx

    caption = (pipe.examples[0] if pipe.examples else "an image") if pipe.conditional else ""
    # The inputs of stackgan.app.api.add_paint. Two images: the first batch finds out whether batches are exact.
    data = [caption, 2, 0, None, pipe.sizes[0], 0, 0, ""]
    with (
        contextlib.suppress(httpx.HTTPError),  # the address may be reachable from other machines only
        httpx.Client(base_url=str(page.local_url), trust_env=False, timeout=60) as client,
    ):
        for name, password in users[:1]:
            client.post("/login", data={"username": name, "password": password})
        posted = client.post("/gradio_api/call/paint", json={"data": data})
        client.get(f"/gradio_api/call/paint/{posted.raise_for_status().json()['event_id']}")


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1):
        pass


def _check_address(host: str, port: int) -> None:
    """Raise ``ValueError`` if the address is not available."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: ports are from 1 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise ValueError(
            f"--host {host}: no such address; 127.0.0.1 is this machine only, 0.0.0.0 all its networks"
        ) from None
    with socket.socket(family, kind, protocol) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            reason = error.strerror or "not possible"
            raise ValueError(f"cannot listen on {host} port {port}: {reason}; choose another with --port") from None
