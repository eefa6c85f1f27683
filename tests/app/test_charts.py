"""Plots as SVG."""

from xml.etree import ElementTree

import pytest

from stackgan.app.charts import bars, intervals


def test_bars_are_as_high_as_their_values() -> None:
    plot = ElementTree.fromstring(bars([4.0, 2.0, 0.0], "a", "x < y", "what & why"))
    heights = [float(bar.attrib["height"]) for bar in plot.iterfind(".//rect")]
    assert heights == [100, 50, 0]
    svg = plot.find("svg")
    assert svg is not None and svg.attrib["aria-labelledby"] == "a-title a-desc"
    assert svg.findtext("title") == "x < y" and svg.findtext("desc") == "what & why"
    assert [mark.text for mark in plot.iterfind(".//span")] == ["4", "0"]


def test_intervals_are_centred() -> None:
    plot = ElementTree.fromstring(intervals([0.0, 1.0], [1.0, 1.0], "a", "t", "d"))
    band, first, second = ((float(r.attrib["y"]), float(r.attrib["height"])) for r in plot.iterfind(".//rect"))
    assert band == first == (25, 50) and second == (0, 50)


def test_nothing_to_plot_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to plot"):
        bars([], "a", "t", "d")
    with pytest.raises(ValueError, match="nothing to plot"):
        intervals([], [], "a", "t", "d")
