"""The report's page and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from stackgan.evaluation.findings import Card, Findings, Sheet, Table
from stackgan.evaluation.page import histogram, page
from stackgan.evaluation.report import write_report


def test_the_page_is_one_file_and_shows_captions_as_they_are(tmp_path: Path) -> None:
    caption = 'a <b>red</b> bird & "friends"'
    picture = Image.new("RGB", (8, 8), "red")
    findings = Findings(
        figures={"a": 1},
        protocol="How <it> was done.",
        tables=[Table(("", "value"), [("a row", "1.5")], title="a table")],
        conclusion="All is well.",
        headlines=[("a number", "42")],
        sheets=[Sheet("sheet", "All of them", picture), Sheet("other", "Only a file", picture, shown=False)],
        cards=[Card(picture, caption)],
        drawings=[histogram({"one": np.arange(9.0), "two": np.arange(5.0)}, "distance")],
    )
    found, missing = {"first": ("First", findings)}, {"second": ("Second", "needs more <data>")}
    write_report(tmp_path, {"pictures": 3}, found, missing, "a model")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert text == page({"pictures": 3}, found, missing, "a model")
    assert "a &lt;b&gt;red&lt;/b&gt; bird &amp; &quot;friends&quot;" in text and "<b>red</b>" not in text
    for words in (
        "All is well.",
        "42",
        "a table",
        "1.5",
        "How &lt;it&gt; was done.",
        "needs more &lt;data&gt;",
        "<svg",
    ):
        assert words in text
    assert text.count("data:image/jpeg;base64,") == 2 and "http" not in text
    assert "prefers-color-scheme:dark" in text and 'name="viewport"' in text
    assert (tmp_path / "sheet.png").is_file() and (tmp_path / "other.png").is_file()
