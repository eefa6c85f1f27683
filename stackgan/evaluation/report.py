"""What an evaluation found: report.json, one self-contained HTML page, Markdown, PNG sheets, lines on the screen.

The page loads nothing: its style, its drawings (SVG) and its pictures (JPEG) are inside.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stackgan.io.files import write_atomic

__all__ = [
    "Card",
    "Findings",
    "NotMeasured",
    "Sheet",
    "Table",
    "histogram",
    "markdown",
    "page",
    "print_findings",
    "write_report",
]

JPEG_QUALITY = 88


class NotMeasured(Exception):
    """A section that has nothing to say here; the message tells why, and what to do about it."""


@dataclass(frozen=True)
class Table:
    """``header``: the first cell names the rows; ``rows``: a label, then a cell for each further column."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""


@dataclass(frozen=True)
class Sheet:
    """A picture of pictures; written as ``name``.png and, where ``shown``, put on the page."""

    name: str
    title: str
    image: Image.Image
    shown: bool = True


@dataclass(frozen=True)
class Card:
    """One picture with its caption as text."""

    image: Image.Image
    caption: str


@dataclass(frozen=True)
class Findings:
    """What one section found.

    Attributes:
        figures: all of it, as JSON.
        protocol: how it was measured, in words.
        tables, verdict, headlines: the figures for people; headlines (label, value) stand at the top of the page.
        sheets, cards, drawings: pictures; drawings are SVG.
    """

    figures: Mapping[str, Any]
    protocol: str
    tables: Sequence[Table] = ()
    verdict: str = ""
    headlines: Sequence[tuple[str, str]] = ()
    sheets: Sequence[Sheet] = ()
    cards: Sequence[Card] = ()
    drawings: Sequence[str] = field(default=())


def write_report(
    folder: Path,
    facts: Mapping[str, Any],
    found: Mapping[str, tuple[str, Findings]],
    missing: Mapping[str, tuple[str, str]],
    subtitle: str,
) -> None:
    """Write report.json, report.html, report.md (the tables, for a model card) and the sheets into ``folder``.

    Args:
        facts: what was measured: checkpoint, data, number of pictures …
        found, missing: by section: its title, and its findings or why there are none.
        subtitle: a line under the heading.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for _, findings in found.values():
        for sheet in findings.sheets:
            stream = io.BytesIO()
            sheet.image.save(stream, "PNG")
            write_atomic(folder / f"{sheet.name}.png", stream.getvalue())
    report = {
        **facts,
        "sections": {
            name: {"protocol": findings.protocol, "verdict": findings.verdict, "figures": findings.figures}
            for name, (_, findings) in found.items()
        },
        "not_measured": {name: reason for name, (_, reason) in missing.items()},
    }
    for _, section in report["sections"].items():
        if not section["verdict"]:
            del section["verdict"]
    write_atomic(folder / "report.json", (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
    write_atomic(folder / "report.html", page(facts, found, missing, subtitle).encode())
    write_atomic(folder / "report.md", markdown(found, subtitle).encode())


def print_findings(found: Mapping[str, tuple[str, Findings]], missing: Mapping[str, tuple[str, str]]) -> None:
    """Tables and verdicts on the screen."""
    for title, findings in found.values():
        if not findings.tables and not findings.verdict:
            continue
        print(f"\n{title}")
        for table in findings.tables:
            rows = [*([table.header] if any(table.header) else []), *table.rows]
            widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
            for row in rows:
                cells = [row[0].ljust(widths[0])]
                cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
                print("  " + "  ".join(cells).rstrip())
        if findings.verdict:
            print(f"  {findings.verdict}")
    for title, reason in missing.values():
        print(f"\n{title}\n  not measured: {reason}")


def markdown(found: Mapping[str, tuple[str, Findings]], subtitle: str) -> str:
    """The tables, with how each was taken, to be put into a model card."""
    parts = [f"# How good is it\n\n{subtitle}"]
    for title, findings in found.values():
        if not findings.tables and not findings.verdict:
            continue
        parts.append(f"## {title}")
        for table in findings.tables:
            lines = [table.header, ("---",) * len(table.header), *table.rows]
            rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines]
            parts += [*([table.title] if table.title else []), "\n".join(rows)]
        parts += [text for text in (findings.verdict, findings.protocol) if text]
    return "\n\n".join(parts) + "\n"


def histogram(series: Mapping[str, NDArray[np.float64]], label: str, bins: int = 40) -> str:
    """Distributions over one axis as an SVG: each series' area is 1, the first filled, the second a line."""
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
        f"<title>stackgan evaluate: {escape(subtitle)}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>How good is it</h1><p>{escape(subtitle)}</p></header>"
        + (f'<div class="tiles">{tiles}</div>' if tiles else "")
        + f"<nav>{links}</nav><main>{sections}"
        f'<section id="facts"><h2>What was measured</h2><div class="wide"><table>{rows}</table></div></section>'
        "</main></body></html>\n"
    )


def _section(name: str, title: str, findings: Findings) -> str:
    parts = [f'<section id="{name}"><h2>{escape(title)}</h2>']
    if findings.verdict:
        parts.append(f'<p class="verdict">{escape(findings.verdict)}</p>')
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
        picture = f'<img src="{_embedded(sheet.image)}" {size} alt="{escape(sheet.title, quote=True)}">'
        parts.append(f'<figure class="sheet">{words}{picture if sheet.shown else ""}</figure>')
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


STYLE = """
:root{color-scheme:light dark;--ink:#1f2a35;--soft:#5b6875;--line:#dfe4e9;--paper:#fff;--card:#f5f7f9;
--accent:#2f6fb0;--fill:#b9d2ea}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaee;--soft:#9aa6b2;--line:#323b45;--paper:#14181d;
--card:#1d232a;--accent:#7fb3e6;--fill:#2d5072}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.25rem clamp(1rem,4vw,2.5rem) 4rem;background:var(--paper);
color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:clamp(1.6rem,5vw,2.2rem);line-height:1.15;margin:1rem 0 .2rem}
h2{font-size:1.25rem;margin:0 0 .8rem}
header p,.protocol,caption,figcaption,.tiles span{color:var(--soft)}
header p{margin:0 0 1.2rem;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(11.5rem,1fr));gap:.75rem;margin-bottom:1.2rem}
.tiles div{background:var(--card);border-radius:10px;padding:.8rem 1rem}
.tiles b{display:block;font-size:1.45rem;font-variant-numeric:tabular-nums;line-height:1.2}
.tiles span{font-size:.85rem;line-height:1.35;display:block;margin-top:.2rem}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;padding:.7rem 0;border-block:1px solid var(--line);font-size:.93rem}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
section{padding:1.9rem 0 1.2rem;border-bottom:1px solid var(--line)}
.verdict{border-left:3px solid var(--accent);padding-left:.8rem;max-width:46rem}
.protocol{font-size:.88rem;max-width:52rem;margin:.9rem 0 0}
.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.2rem 0 1rem;font-size:.95rem}
caption{text-align:left;font-size:.88rem;padding-bottom:.3rem}
th,td{padding:.36rem 1.1rem .36rem 0;border-bottom:1px solid var(--line);text-align:right;vertical-align:baseline}
th:first-child{text-align:left;font-weight:400;min-width:9rem}
td{white-space:nowrap}#facts td{white-space:normal}
thead th{color:var(--soft);font-weight:400;font-size:.85rem}
#facts td{text-align:left;overflow-wrap:anywhere}
figure{margin:.8rem 0}
figcaption{font-size:.9rem;margin-bottom:.4rem}
.sheet img{display:block;max-width:100%;height:auto;border-radius:4px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(7rem,1fr));gap:1rem .85rem}
.cards figure{margin:0}.cards img{width:100%;aspect-ratio:1;border-radius:6px;display:block;image-rendering:auto}
.cards figcaption{font-size:.82rem;line-height:1.35;margin:.35rem 0 0}
svg{width:100%;max-width:640px;height:auto;display:block}
svg text{fill:var(--soft);font-size:13px}
svg .fill{fill:var(--fill);stroke:none}svg .line{fill:none;stroke:var(--accent);stroke-width:2}
svg .axis{stroke:var(--line)}
ul{padding-left:1.2rem}li{margin:.35rem 0}
@media(max-width:32rem){.cards{grid-template-columns:repeat(2,1fr)}.tiles{grid-template-columns:repeat(2,1fr)}
th,td{padding-right:.8rem}th:first-child{min-width:7rem}}
"""
