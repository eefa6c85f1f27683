"""CSV files as people and spreadsheets write them: comma, semicolon or tab, blanks after separators, damaged rows."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence

__all__ = ["column_name", "csv_delimiter", "csv_rows", "separator_line"]

DELIMITERS = ",;\t"


def column_name(cell: str) -> str:
    """The name of a column in lower case, with underscores for blanks and hyphens.

    >>> column_name(" File-Name ")
    'file_name'
    """
    return "_".join(cell.replace("-", " ").casefold().split())


def csv_delimiter(header: str, keys: Collection[str]) -> str:
    """The delimiter with which the first line of a CSV file names most of the columns ``keys``; else the comma.

    >>> csv_delimiter("file_name;text", ("file_name", "text"))
    ';'
    """

    def known(delimiter: str) -> int:
        cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        return sum(column_name(cell) in keys for cell in cells)

    return max(DELIMITERS, key=known)  # the first of equals


def separator_line(line: str) -> str | None:
    """The delimiter of a line ``sep=;``, which spreadsheets write before the header.

    >>> separator_line("sep=;"), separator_line("file_name,text")
    (';', None)
    """
    mark = line.strip(" \r\n").strip('"')
    return mark[4] if len(mark) == 5 and mark.startswith("sep=") and mark[4] in DELIMITERS else None


def csv_rows(lines: Sequence[str], delimiter: str, first: int = 0) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the index of the first line of each row with its cells, or with the reason why it is not a row.

    After a row that cannot be parsed, such as one with a quote that is never closed, reading goes on with the next
    line, so that one damaged row does not hide the others. Blank rows are left out.

    Args:
        lines: of the file, with their line ends.
        first: index of the first line to read.
    """
    place = first

    def following() -> Iterator[str]:
        nonlocal place
        while place < len(lines):
            place += 1
            yield lines[place - 1]

    reader = csv.reader(following(), delimiter=delimiter, skipinitialspace=True, strict=True)
    while place < len(lines):
        start = place
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield start, f"{error}; the line is not CSV"
            place = start + 1
            reader = csv.reader(following(), delimiter=delimiter, skipinitialspace=True, strict=True)
            continue
        if row and any(cell.strip() for cell in row):
            yield start, row
