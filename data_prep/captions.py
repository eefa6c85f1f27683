"""Reading of caption files, and normalisation of white space in captions."""

from __future__ import annotations

import re
from pathlib import Path

from stackgan.captions.file import is_blank
from stackgan.io.json_reader import NEW_LINE

__all__ = ["decode", "read_captions", "tidy"]


def tidy(text: str) -> str:
    """The caption on one line: runs of white space, including line breaks, become one space. Empty if it is blank.

    >>> tidy("  a small  bird\\n with black wings ")
    'a small bird with black wings'
    """
    return "" if is_blank(text) else " ".join(text.split())


def decode(data: bytes) -> str:
    """UTF-8 text, with or without a byte-order mark; other encodings are not guessed.

    Raises:
        ValueError: the data are not UTF-8 text; the message names the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(NEW_LINE.findall(data[: error.start])) + 1
        raise ValueError(f"line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save it as UTF-8") from None
    if "\0" in text:
        raise ValueError("holds null characters, so it is not UTF-8 text")
    return text


def read_captions(file: Path) -> tuple[str, ...]:
    """The captions of a text file, one per line; blank lines are ignored. Lines end with LF, CR LF or CR.

    Raises:
        ValueError: the file does not exist, is empty, or is not UTF-8.
    """
    try:
        text = decode(file.read_bytes())
    except FileNotFoundError:
        raise ValueError("missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    captions = tuple(caption for line in re.split(r"\r\n|\r|\n", text) if (caption := tidy(line)))
    if not captions:
        raise ValueError("empty: no caption in it")
    return captions
