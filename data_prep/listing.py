"""Files of a folder of photos: links to folders are followed, and names are found in any Unicode form and case."""

from __future__ import annotations

import os
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_prep.writing import Problem
from stackgan.io.digests import DigestIndex, digests
from stackgan.io.files import is_utf8, shown_name
from stackgan.io.spool import StringSpool

__all__ = ["Listing", "Names", "list_files", "suffix"]


@dataclass
class Listing:
    """Files below a folder, by their paths relative to it, with forward slashes.

    Attributes:
        files: paths, sorted; on the disk.
        problems: what could not be read: names that are not UTF-8, broken links, folders without permission.
        read_once: links to folders that are read already under another name, such as links to a parent folder.
        file_links: path → links to this file.
        folder_links: path of a folder → links to it.
    """

    files: Sequence[str] = field(default_factory=StringSpool)
    problems: list[Problem] = field(default_factory=list)
    read_once: list[str] = field(default_factory=list)
    file_links: dict[str, list[str]] = field(default_factory=dict)
    folder_links: dict[str, list[str]] = field(default_factory=dict)

    def names(self, path: str) -> tuple[str, ...]:
        """All paths by which a file is reached, its own first: links to it and to its folders."""
        if not self.file_links and not self.folder_links:
            return (path,)
        found = []
        for own in (path, *self.file_links.get(path, ())):
            found.append(own)
            parts = PurePosixPath(own).parts
            for count in range(1, len(parts)):
                for link in self.folder_links.get("/".join(parts[:count]), ()):
                    found.append("/".join((link, *parts[count:])))
        return tuple(dict.fromkeys(found))


class Names:
    """Finds paths by names whose Unicode form (composed, decomposed) or case may differ.

    Memory use is 32 bytes for each name, and 24 bytes more when a name is first looked for in another form, or case.

    Args:
        paths: the paths.
        names: all names by which a path may be found.
    """

    def __init__(self, paths: Sequence[str], names: Callable[[str], Iterable[str]]) -> None:
        self._paths, self._names = paths, names
        self._owners = array("q")  # name -> its path
        self._levels: list[DigestIndex] = []  # the names as they are, composed, and in one case

    def find(self, name: str) -> int | None:
        """The number of the path of that name: exactly, else in another Unicode form, else in another case.

        Returns: None without one.

        Raises:
            ValueError: several paths differ from the name in the same way.
        """
        for level in range(len(_FORMS)):
            found = {self._owners[row] for row in self._index(level).find(_FORMS[level](name)).tolist()}
            if len(found) > 1:
                paths = sorted(self._paths[number] for number in found)
                raise ValueError(f"{name}: there are {' and '.join(paths)}; rename one of them")
            if found:
                return found.pop()
        return None

    def _index(self, level: int) -> DigestIndex:
        while len(self._levels) <= level:
            owners, form = array("q"), _FORMS[len(self._levels)]

            def every(owners: array[int] = owners, form: Callable[[str], str] = form) -> Iterator[str]:
                for number, path in enumerate(self._paths):
                    for name in self._names(path):
                        owners.append(number)
                        yield form(name)

            self._levels.append(DigestIndex(digests(every())))
            self._owners = owners
        return self._levels[level]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


_FORMS: tuple[Callable[[str], str], ...] = (str, _composed, lambda name: _composed(_composed(name).casefold()))


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
        self._unread: set[str] = set()  # folders of these that could not be read
        self._files: list[str] = []
        self._linked: list[tuple[str, str]] = []  # links to files, and their real paths

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
                self._listing.folder_links.setdefault(folder, []).append(link)
        elif self.root.startswith(os.path.join(target, "")):  # noqa: PTH118
            self._problem(link, "a link to a folder that contains the source; it is not entered")
        else:
            self.enter(link)

    def result(self) -> Listing:
        first: dict[str, str] = {}  # real path of a file that is listed by links alone → the first of them
        for path, real in sorted(self._linked):
            own = self._listed(real) or first.setdefault(real, path)
            if own == path:
                self._files.append(path)
            else:
                self._listing.file_links.setdefault(own, []).append(path)
        self._files.sort()
        self._listing.files = StringSpool(self._files)
        self._listing.read_once.sort()
        self._listing.problems.sort(key=lambda problem: problem.path)
        return self._listing

    def _listed(self, real: str) -> str | None:
        """The path under which a file is listed without links to it, by its real path; None without one."""
        folder, name = os.path.split(real)
        parent = self._folders.get(folder)
        if parent is None or parent in self._unread or name.startswith(".") or not is_utf8(name):
            return None
        return f"{parent}/{name}" if parent else name

    def _read(self, folder: str) -> list[str]:
        """List the files of a folder; returns its subfolders, sorted."""
        subfolders: list[str] = []
        try:
            with os.scandir(self.src / folder) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        self._entry(f"{folder}/{entry.name}" if folder else entry.name, entry, subfolders)
        except OSError as error:
            self._problem(folder, f"cannot be read: {error.strerror}")
            self._unread.add(folder)
        return sorted(subfolders)

    def _entry(self, path: str, entry: os.DirEntry[str], subfolders: list[str]) -> None:
        try:
            if not is_utf8(entry.name):
                kind = "folder" if entry.is_dir() else "file"
                self._problem(path, f"the name of this {kind} is not UTF-8; rename it")
            elif entry.is_dir():
                linked = entry.is_symlink() or os.path.realpath(entry.path) in self._folders
                (self.links if linked else subfolders).append(path)
            elif entry.is_file():
                if entry.is_symlink():
                    self._linked.append((path, os.path.realpath(entry.path)))
                else:
                    self._files.append(path)
            elif entry.is_symlink():
                self._problem(path, "a link to nothing")
            else:
                self._problem(path, "neither a file nor a folder")
        except OSError as error:  # a link to itself
            self._problem(path, f"cannot be read: {error.strerror}")

    def _problem(self, path: str, reason: str) -> None:
        self._listing.problems.append(Problem(shown_name(path), reason))
