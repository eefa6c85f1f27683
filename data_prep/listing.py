"""Files of a folder of photos: links to folders are followed, and names are found in any Unicode form and case."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_prep.writing import Problem
from stackgan.io.files import is_utf8, shown_name

__all__ = ["Listing", "Names", "list_files", "suffix"]


@dataclass
class Listing:
    """Files below a folder, by their paths relative to it, with forward slashes.

    Attributes:
        names: path → all paths by which the file is reached, its own first: links to it and to its folders.
        problems: what could not be read: names that are not UTF-8, broken links, folders without permission.
        read_once: links to folders that are read already under another name, such as links to a parent folder.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    read_once: list[str] = field(default_factory=list)


class Names:
    """Finds paths by names whose Unicode form (composed, decomposed) or case may differ.

    Args:
        paths: path → all names by which it may be found.
    """

    def __init__(self, paths: Mapping[str, Iterable[str]]) -> None:
        self._levels: list[dict[str, set[str]]] = [{}, {}, {}]
        for path, names in paths.items():
            for name in names:
                for level, key in zip(self._levels, _keys(name), strict=True):
                    level.setdefault(key, set()).add(path)

    def find(self, name: str) -> str | None:
        """The path of that name: exactly, else in another Unicode form, else in another case; None without one.

        Raises:
            ValueError: several paths differ from the name in the same way.
        """
        for level, key in zip(self._levels, _keys(name), strict=True):
            found = level.get(key)
            if found and len(found) > 1:
                raise ValueError(f"{name}: there are {' and '.join(sorted(found))}; rename one of them")
            if found:
                return next(iter(found))
        return None


def _keys(name: str) -> tuple[str, str, str]:
    composed = unicodedata.normalize("NFC", name)
    return name, composed, unicodedata.normalize("NFC", composed.casefold())


def suffix(path: str) -> str:
    """The extension in lower case, with its dot."""
    return PurePosixPath(path).suffix.lower()


def list_files(src: Path) -> Listing:
    """All files below `src`, sorted, except for names with a leading dot.

    Links to folders are entered, each folder once, so that links may form cycles; a link to a folder that contains
    `src` is not entered. Real folders are read first, so that a file's path is its own and not a link's.
    """
    walk = _Walk(src)
    walk.enter("")
    while walk.links:
        links, walk.links = sorted(walk.links), []
        for link in links:
            walk.enter_link(link)
    return walk.result()


class _Walk:
    def __init__(self, src: Path) -> None:
        self.src = src
        self.root = os.path.realpath(src)
        self.links: list[str] = []  # links to folders, not entered yet
        self._listing = Listing()
        self._folders: dict[str, str] = {}  # real path → path of a folder that was entered
        self._other_names: dict[str, list[str]] = {}  # path of a folder → links to it
        self._files: dict[str, list[str]] = {}  # real path → paths; links last

    def enter(self, top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            self._folders[os.path.realpath(self.src / folder)] = folder
            waiting += self._read(folder)

    def enter_link(self, link: str) -> None:
        target = os.path.realpath(self.src / link)
        if target in self._folders:
            folder = self._folders[target]
            self._listing.read_once.append(link)
            if folder and not link.startswith(f"{folder}/"):  # otherwise a cycle
                self._other_names.setdefault(folder, []).append(link)
        elif self.root.startswith(os.path.join(target, "")):  # noqa: PTH118
            self._problem(link, "a link to a folder that contains the source; it is not entered")
        else:
            self.enter(link)

    def result(self) -> Listing:
        for paths in self._files.values():
            names = [name for path in paths for name in self._names(path)]
            self._listing.names[paths[0]] = list(dict.fromkeys(names))
        self._listing.names = dict(sorted(self._listing.names.items()))
        self._listing.read_once.sort()
        self._listing.problems.sort(key=lambda problem: problem.path)
        return self._listing

    def _names(self, path: str) -> list[str]:
        """The path, and the paths by which it is reached through links to its folders."""
        names = [path]
        parts = PurePosixPath(path).parts
        for count in range(1, len(parts)):
            for link in self._other_names.get("/".join(parts[:count]), ()):
                names.append("/".join((link, *parts[count:])))
        return names

    def _read(self, folder: str) -> list[str]:
        """List the files of a folder; returns its subfolders."""
        try:
            entries = sorted(os.scandir(self.src / folder), key=lambda entry: entry.name)
        except OSError as error:
            self._problem(folder, f"cannot be read: {error.strerror}")
            return []
        real = os.path.realpath(self.src / folder)
        subfolders: list[str] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                if not is_utf8(entry.name):
                    kind = "folder" if entry.is_dir() else "file"
                    self._problem(path, f"the name of this {kind} is not UTF-8; rename it")
                elif entry.is_dir():
                    linked = entry.is_symlink() or os.path.realpath(entry.path) in self._folders
                    (self.links if linked else subfolders).append(path)
                elif entry.is_file():
                    linked = entry.is_symlink()
                    self._file(path, os.path.realpath(entry.path) if linked else f"{real}/{entry.name}", linked)
                elif entry.is_symlink():
                    self._problem(path, "a link to nothing")
                else:
                    self._problem(path, "neither a file nor a folder")
            except OSError as error:  # a link to itself
                self._problem(path, f"cannot be read: {error.strerror}")
        return subfolders

    def _file(self, path: str, real: str, linked: bool) -> None:
        paths = self._files.setdefault(real, [])
        if linked:
            paths.append(path)
        else:
            paths.insert(0, path)  # a real path is listed once

    def _problem(self, path: str, reason: str) -> None:
        self._listing.problems.append(Problem(shown_name(path), reason))
