"""Imports of the server before its address was checked; start and stop are tested with the page."""

import subprocess
import sys
from pathlib import Path

import pytest

from stackgan.app.server import serve

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
