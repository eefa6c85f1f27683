"""Escaping of user texts as HTML."""

import re

from stackgan.app.components import html_text


def test_texts_from_outside_cannot_become_code() -> None:
    safe = html_text('<b onclick="x()">${1}`\\{{y}}</b> straße, 鸟.')
    assert not set('<>"$`\\{}&') & set(re.sub(r"&#\d+;", "", safe))
    assert "straße, 鸟." in safe
