"""The report as one self-contained HTML page, with embedded style, drawings (SVG) and images (JPEG)."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stackgan.evaluation.findings import Findings, Table

__all__ = ["histogram", "page"]

JPEG_QUALITY = 88
STYLE = Path(__file__).with_name("page.css")


def histogram(series: Mapping[str, NDArray[np.float64]], label: str, bins: int = 40) -> str:
    """Histograms as SVG, normalised to area 1; the first series is filled, the second a line."""
    values = np.concatenate(list(series.values()))
    low, high = np.quantile(values, 0.001), np.quantile(values, 0.999)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    shares = {name: np.histogram(own, edges)[0] / max(len(own), 1) for name, own in series.items()}
    top = max(float(share.max()) for share in shares.values()) or 1.0
    width, height, base = 640, 180, 150
    shapes = []
    for place, (name, share) in enumerate(shares.items()):
        x = np.repeat(np.linspace(10, width - 10, bins + 1), 2)[1:-1]
        y = np.repeat(base - share / top * (base - 24), 2)
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        kind = "fill" if place == 0 else "line"
        shapes.append(f'<polyline class="{kind}" points="10,{base} {line} {width - 10},{base}"/>')
        shapes.append(f'<rect class="{kind}" x="{14 + 190 * place}" y="4" width="14" height="10"/>')
        shapes.append(f'<text x="{34 + 190 * place}" y="14">{escape(name)}</text>')
    ends = f'<text x="10" y="{height - 12}">{edges[0]:.3g}</text>'
    ends += f'<text x="{width - 10}" y="{height - 12}" text-anchor="end">{edges[-1]:.3g}</text>'
    ends += f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">{escape(label)}</text>'
    axis = f'<line class="axis" x1="10" y1="{base}" x2="{width - 10}" y2="{base}"/>'
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}">'
        + axis
        + "".join(shapes)
        + ends
        + "</svg>"
    )


def page(
    facts: Mapping[str, Any],
    found: Mapping[str, tuple[str, Findings]],
    missing: Mapping[str, tuple[str, str]],
    subtitle: str,
) -> str:
    """The report as one HTML page."""
    tiles = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>"
        for _, findings in found.values()
        for label, value in findings.headlines
    )
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, (title, _) in found.items())
    sections = "".join(_section(name, title, findings) for name, (title, findings) in found.items())
    without = "".join(f"<li><b>{escape(title)}</b>: {escape(reason)}</li>" for title, reason in missing.values())
    if without:
        sections += f'<section id="not-measured"><h2>Not measured</h2><ul>{without}</ul></section>'
        links += '<a href="#not-measured">Not measured</a>'
    rows = "".join(
        f"<tr><th>{escape(k.replace('_', ' '))}</th><td>{escape(str(v))}</td></tr>" for k, v in facts.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>stackgan evaluate: {escape(subtitle)}</title><style>{STYLE.read_text('utf-8')}</style></head><body>"
        f"<header><h1>Evaluation</h1><p>{escape(subtitle)}</p></header>"
        + (f'<div class="tiles">{tiles}</div>' if tiles else "")
        + f"<nav>{links}</nav><main>{sections}"
        f'<section id="facts"><h2>What was measured</h2><div class="wide"><table>{rows}</table></div></section>'
        "</main></body></html>\n"
    )


def _section(name: str, title: str, findings: Findings) -> str:
    parts = [f'<section id="{name}"><h2>{escape(title)}</h2>']
    if findings.conclusion:
        parts.append(f'<p class="conclusion">{escape(findings.conclusion)}</p>')
    parts += [_table(table) for table in findings.tables]
    parts += [f"<figure>{drawing}</figure>" for drawing in findings.drawings]
    if findings.cards:
        cards = "".join(
            f'<figure><img src="{_embedded(card.image)}" alt="">'
            f"<figcaption>{escape(card.caption)}</figcaption></figure>"
            for card in findings.cards
        )
        parts.append(f'<div class="cards">{cards}</div>')
    for sheet in findings.sheets:
        words = f'<figcaption>{escape(sheet.title)} <a href="{sheet.name}.png">{sheet.name}.png</a></figcaption>'
        size = f'width="{sheet.image.width}" height="{sheet.image.height}"'
        image = f'<img src="{_embedded(sheet.image)}" {size} alt="{escape(sheet.title, quote=True)}">'
        parts.append(f'<figure class="sheet">{words}{image if sheet.shown else ""}</figure>')
    parts.append(f'<p class="protocol">{escape(findings.protocol)}</p></section>')
    return "".join(parts)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header) if any(table.header) else ""
    rows = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in table.rows
    )
    caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    return f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _embedded(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
