"""Report of an evaluation: report.json, report.html, report.md, sheets as PNG, and printed tables."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackgan.config.facts import MeasuredFacts
from stackgan.evaluation.findings import Findings
from stackgan.evaluation.page import page
from stackgan.io.files import write_atomic
from stackgan.io.json_reader import Fields, MapOf, read_json

__all__ = ["markdown", "print_findings", "read_measured", "write_report"]

REPORT = Fields(  # the keys of report.json that a model card shows
    {
        "checkpoint": str,
        "pictures": int,
        "split": str,
        "headlines": MapOf(object),
        "side": int,
        "truncation": float,
        "stackgan": str,
    }
)


def write_report(
    folder: Path,
    facts: Mapping[str, Any],
    found: Mapping[str, tuple[str, Findings]],
    missing: Mapping[str, tuple[str, str]],
    subtitle: str,
) -> None:
    """Write report.json, report.html, report.md (the tables, for a model card) and the sheets into ``folder``.

    Args:
        facts: checkpoint, data, number of images, …
        found, missing: by section, its title, and its findings or the reason why it was not measured.
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
        "headlines": {label: value for _, findings in found.values() for label, value in findings.headlines},
        "sections": {
            name: {"protocol": findings.protocol, "verdict": findings.conclusion, "figures": findings.figures}
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


def read_measured(report: Path, fingerprint: str) -> MeasuredFacts:
    """The headline figures of a report, for the model card of the checkpoint that it is about.

    Args:
        report: folder of the report.
        fingerprint: of the checkpoint.

    Raises:
        FileNotFoundError: there is no report.
        ValueError: it is damaged, of an early version, or about another checkpoint.
    """
    file = report / "report.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such report; `stackgan evaluate --out {report}` writes one")
    values = read_json(file, REPORT, advice="cannot be read as a report: evaluate again")
    about, count, split = values["checkpoint"], values["pictures"], values["split"]
    figures = {label: str(value) for label, value in values["headlines"].items()}
    side, truncation, version = values["side"], values["truncation"], values["stackgan"]
    if about != fingerprint:
        raise ValueError(
            f"{file}: is about the checkpoint {str(about)[:12]}, not {fingerprint[:12]}: evaluate this one"
        )
    protocol = f"By `stackgan evaluate` (stackgan {version}): {count:,} images of {side} px for captions of the "
    return MeasuredFacts(f"{protocol}split `{split}`, truncation {truncation:g}:", figures)


def print_findings(found: Mapping[str, tuple[str, Findings]], missing: Mapping[str, tuple[str, str]]) -> None:
    """Print tables and conclusions."""
    for title, findings in found.values():
        if not findings.tables and not findings.conclusion:
            continue
        print(f"\n{title}")
        for table in findings.tables:
            rows = [*([table.header] if any(table.header) else []), *table.rows]
            widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
            for row in rows:
                cells = [row[0].ljust(widths[0])]
                cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
                print("  " + "  ".join(cells).rstrip())
        if findings.conclusion:
            print(f"  {findings.conclusion}")
    for title, reason in missing.values():
        print(f"\n{title}\n  not measured: {reason}")


def markdown(found: Mapping[str, tuple[str, Findings]], subtitle: str) -> str:
    """The tables with their protocols, for a model card."""
    parts = [f"# Evaluation\n\n{subtitle}"]
    for title, findings in found.values():
        if not findings.tables and not findings.conclusion:
            continue
        parts.append(f"## {title}")
        for table in findings.tables:
            lines = [table.header, ("---",) * len(table.header), *table.rows]
            rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines]
            parts += [*([table.title] if table.title else []), "\n".join(rows)]
        parts += [text for text in (findings.conclusion, findings.protocol) if text]
    return "\n\n".join(parts) + "\n"
