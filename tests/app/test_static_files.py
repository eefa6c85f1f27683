"""Style sheet, scripts and templates: each is a file, and each file is used."""

import re
from pathlib import Path

APP = Path(__file__).resolve().parents[2] / "stackgan" / "app"


def test_the_files_are_those_that_are_read() -> None:
    code = "".join(file.read_text("utf-8") for file in APP.rglob("*.py") if file.name != "static_files.py")
    read = set(re.findall(r'read_static\("([^"]+)"\)', code))
    assert read == {file.name for file in (APP / "static").iterdir()}
