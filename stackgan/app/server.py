"""Server of the page: loads a checkpoint and serves the page until Ctrl-C.

Gradio and PyTorch are imported after the address was checked, so that an error is reported immediately.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from stackgan.app.static_files import read_static
from stackgan.io.checkpoint_names import find_checkpoint

if TYPE_CHECKING:
    import gradio as gr

    from stackgan.pipeline import StackGANPipeline

__all__ = ["launch", "serve", "warm_up"]


def serve(checkpoint: str | Path, *, host: str = "127.0.0.1", port: int = 7860, device: str | None = None) -> None:
    """Load a checkpoint and serve the page until SIGINT (Ctrl-C) or SIGTERM; call it in the main thread.

    Args:
        checkpoint: a folder or name (:func:`stackgan.io.checkpoint_names.find_checkpoint`); its README.md is shown
            on the page.
        host: address to listen on; 127.0.0.1 for this machine only, 0.0.0.0 for all its networks.
        port: 1 to 65535.
        device: cpu or cuda; None for cuda if available.

    Raises:
        ValueError: the address is not available, Gradio is not installed, or the page does not support the
            checkpoint.
        FileNotFoundError: there is no checkpoint.
    """
    _check_address(host, port)
    if find_spec("gradio") is None:
        raise ValueError('the page needs the package gradio: pip install "stackgan[app]"')
    with tempfile.TemporaryDirectory(prefix="stackgan-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # generated files are deleted when the server stops
        pipe, page = _load(find_checkpoint(checkpoint), device)
        launch(page, host, port)
        warm_up(page, pipe)
        shown = f"[{host}]" if ":" in host else host
        print(f"Page at http://{shown}:{port} (Ctrl-C stops)", flush=True)
        _wait_for_signal()
        page.close(verbose=False)


def _load(checkpoint: Path, device: str | None) -> tuple[StackGANPipeline, gr.Blocks]:
    from stackgan.pipeline import StackGANPipeline
    from stackgan.runtime.allocator import keep_pages

    keep_pages()
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    from stackgan.app.page import build  # imports Gradio: after the checks that do not need it

    card = checkpoint / "README.md"
    try:
        return pipe, build(pipe, card.read_text("utf-8", errors="replace") if card.is_file() else "")
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from None


def launch(page: gr.Blocks, host: str, port: int) -> None:
    """Serve a page with style sheet and theme from a separate thread; returns when it responds."""
    from stackgan.app.theme import theme

    # Gradio checks that its server responds, which must not go through a proxy.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost", host]))
    page.launch(
        server_name=host,
        server_port=port,
        theme=theme(),
        css=read_static("page.css"),
        footer_links=[],
        share=False,
        ssr_mode=False,
        pwa=False,
        quiet=True,
        show_error=False,
        prevent_thread_lock=True,
    )


def warm_up(page: gr.Blocks, pipe: StackGANPipeline) -> None:
    """Generate once through the page's queue, whose first event imports modules for 0.4 s."""
    import httpx

    from stackgan.app.painting import DEFAULT_COUNT, DEFAULT_SEED

    caption = [pipe.examples[0] if pipe.examples else "an image"] if pipe.conditional else []
    data = [*caption, DEFAULT_COUNT, DEFAULT_SEED, pipe.truncation, True]
    with (
        contextlib.suppress(httpx.HTTPError),  # the address may be reachable from other machines only
        httpx.Client(base_url=str(page.local_url), trust_env=False, timeout=60) as client,
    ):
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
