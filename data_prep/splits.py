"""The split of each photo: as its folder or the metadata say, else by species, else by a hash of its name."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from data_prep.writing import Problem, hash_share

__all__ = ["SPLITS", "Splits", "Splittable", "assign_splits", "named_split", "paired_folders"]

# Words that name a split, as in Hugging Face's ImageFolder, and the split of the prepared folder.
SPLITS = {
    **dict.fromkeys(("train", "training", "trainset", "trainval"), "train"),
    **dict.fromkeys(("test", "tests", "testing", "testset", "eval", "evaluation"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev", "development"), "val"),
}
FILLERS = frozenset(("set", "split", "data", "dataset", "image", "images", "photo", "photos", "picture", "pictures"))
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+")


def named_split(name: str) -> str | None:
    """The split that a folder or a value of the metadata names, in any case and with words such as "set" or a year.

    >>> [named_split(name) for name in ("train", "Testing", "VALID", "val2017", "test_set", "trainImages")]
    ['train', 'test', 'val', 'val', 'test', 'train']
    >>> [named_split(name) for name in ("images", "trainers", "test train", "dev kit")]
    [None, None, None, None]
    """
    words = [word.casefold() for word in _WORD.findall(name)]
    splits = {SPLITS[word] for word in words if word in SPLITS}
    if len(splits) == 1 and all(word in SPLITS or word in FILLERS for word in words):
        return splits.pop()
    return None


def paired_folders(folders: Iterable[str]) -> dict[str, str]:
    """Folders whose names differ from that of a folder beside them in the word of a split alone, and their split.

    >>> paired_folders(["seg_train", "seg_test", "a/trainA", "a/testA", "my_test", "dev kit", "b/seg_val"])
    {'seg_train': 'train', 'seg_test': 'test', 'a/trainA': 'train', 'a/testA': 'test'}
    """
    groups: dict[str, dict[str, str]] = {}  # path without the word of the split, in lower case → its folders
    for folder in folders:
        parent, _, name = folder.rpartition("/")
        words = _split_words(name)
        if len(words) == 1:
            rest = f"{name[: words[0].start()]}*{name[words[0].end() :]}".casefold()
            groups.setdefault(f"{parent}/{rest}", {})[folder] = SPLITS[words[0][0].casefold()]
    return {
        folder: split for group in groups.values() if len(set(group.values())) > 1 for folder, split in group.items()
    }


def _split_words(name: str) -> list[re.Match[str]]:
    return [word for word in _WORD.finditer(name) if word[0].casefold() in SPLITS]


class Splittable(Protocol):
    """A photo: path, all names by which it can be reached, species, and the split in the metadata."""

    @property
    def path(self) -> str: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def species(self) -> str | None: ...
    @property
    def split(self) -> str | None: ...


@dataclass
class Splits:
    """Splits of photos.

    Attributes:
        homes: the split of each photo; None if it is contradictory or missing.
        rule: "folders", "metadata", "folders and metadata", "species" or "file names".
        given: split → the folders or values of the metadata that name it, sorted; empty unless the rule is one of the
            first three.
        problems: photos without a usable split.
    """

    homes: list[str | None] = field(default_factory=list)
    rule: str = ""
    given: dict[str, list[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def assign_splits(photos: Sequence[Splittable], fraction: float, seed: int) -> Splits:
    """Assign every photo to a split.

    If folders or the metadata name splits, these are used as they are, and `fraction` has no effect; photos without
    a split then belong to the training unless there are others that are named so.

    Args:
        fraction: share of the photos for the test split if none is given.
        seed: of the choice.

    Raises:
        ValueError: no photos would be left for training.
    """
    facts = _Facts(photos, seed)
    if any(facts.different):
        return _given(photos, facts)
    species = Counter(number for number in facts.species if number >= 0)
    by_species = len(species) > 1
    names = list(facts.names)
    counts = Counter({names[number]: count for number, count in species.items()})
    kept = _test_species(counts, fraction, seed) if by_species else set()
    test = [name in kept for name in names]
    result = Splits(rule="species" if by_species else "file names")
    for number, share in zip(facts.species, facts.shares, strict=True):
        chosen = test[number] if by_species and number >= 0 else share < fraction
        result.homes.append("test" if chosen else "train")
    if photos and "train" not in result.homes:
        raise ValueError(f"--test-fraction {fraction}: leaves no photos for training; lower it")
    return result


class _Facts:
    """What a split depends on, of each photo, read once: 24 bytes of memory for a photo.

    Attributes:
        sources: what names a split of the photo; its number in `different`.
        different: folders, with a slash at their end, and "metadata", each with the split that it names.
        species: number in `names`, or −1.
        shares: hash of the path, in [0, 1).
    """

    def __init__(self, photos: Iterable[Splittable], seed: int) -> None:
        self.sources, self.species, self.shares = array("q"), array("q"), array("d")
        self.names: dict[str, int] = {}
        numbers: dict[tuple[tuple[str, ...], str | None], int] = {}
        for photo in photos:
            folders = tuple(folder for path in photo.names for folder in _split_folders(path))
            self.sources.append(numbers.setdefault((folders, photo.split), len(numbers)))
            species = photo.species
            self.species.append(-1 if species is None else self.names.setdefault(species, len(self.names)))
            self.shares.append(hash_share(seed, photo.path))
        paired = paired_folders(dict.fromkeys(folder for folders, _ in numbers for folder in folders))
        self.different = [_sources(folders, split, paired) for folders, split in numbers]


def _split_folders(path: str) -> list[str]:
    """The folders above a file whose names hold the word of a split, each by its whole path."""
    folders = (path[:place] for place, mark in enumerate(path) if mark == "/")
    return [folder for folder in folders if _split_words(folder.rpartition("/")[2])]


def _sources(folders: Iterable[str], metadata: str | None, paired: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in folders:
        name = folder.rpartition("/")[2]
        split = named_split(name) or paired.get(folder)
        if split:
            found[f"{name}/"] = split
    return found | ({"metadata": metadata} if metadata else {})


def _given(photos: Sequence[Splittable], facts: _Facts) -> Splits:
    homes = [next(iter(found.values())) if len(set(found.values())) == 1 else None for found in facts.different]
    result = Splits(homes=[homes[number] for number in facts.sources])
    for place, number in enumerate(facts.sources):
        found = facts.different[number]
        if len(set(found.values())) > 1:
            said = ", ".join(f"{split!r} by {_source(name)}" for name, split in found.items())
            result.problems.append(Problem(photos[place].path, f"contradictory splits: {said}; keep one"))
    kinds = {"metadata" if name == "metadata" else "folders" for found in facts.different for name in found}
    result.rule = " and ".join(sorted(kinds))
    for split in sorted({home for home in homes if home}):
        pairs = zip(homes, facts.different, strict=True)
        result.given[split] = sorted({name for home, found in pairs if home == split for name in found})
    loose = [place for place, number in enumerate(facts.sources) if not facts.different[number]]
    if "train" in result.given:
        given = _listed(name for names in result.given.values() for name in names)
        reason = f"in no split, although others are (by {given}); "
        reason += "move it to a split's folder or name its split in the metadata"
        result.problems.extend(Problem(photos[place].path, reason) for place in loose)
    else:
        for place in loose:
            result.homes[place] = "train"
    if any(result.homes) and "train" not in result.homes:
        given = _listed(name for names in result.given.values() for name in names)
        raise ValueError(f"no photos for training: all are in other splits, named by {given}; rename the folder")
    return result


def _source(name: str) -> str:
    return "the metadata" if name == "metadata" else f"the folder {name}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted({_source(name) for name in names}))


def _test_species(photos: Counter[str], fraction: float, seed: int) -> set[str]:
    """Species for the test split, selected by their hashes until they have about `fraction` of the photos."""
    wanted = fraction * photos.total()
    taken: set[str] = set()
    count = 0
    for species in sorted(photos, key=lambda name: hash_share(seed, name)):
        if len(taken) < len(photos) - 1 and count + photos[species] / 2 <= wanted:
            taken.add(species)
            count += photos[species]
    if not taken and fraction > 0:
        taken.add(min(photos, key=lambda name: (photos[name], name)))
    return taken
