"""Pickles of plain values are read; all others are rejected without executing anything."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep.pickles import read_pickle


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("pickle-was-run",)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_are_read(protocol: int, tmp_path: Path) -> None:
    value = {
        "names": ["a", ("b", b"\xff\x00", 2.5, True, -7)],
        "array": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "big endian": np.array([1, 2], dtype=">i8"),
        "words": np.array(["a", "bcd"]),
        "scalar": np.int64(3),
    }
    (tmp_path / "p").write_bytes(pickle.dumps(value, protocol))
    read = read_pickle(tmp_path / "p")
    assert read["names"] == value["names"] and read["scalar"] == 3 and type(read["scalar"]) is int
    for key in ("array", "big endian", "words"):
        assert read[key].dtype == value[key].dtype and np.array_equal(read[key], value[key])


def test_python_2_pickles_are_latin_1(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"(lp0\nS'caf\\xe9'\np1\naI3\na.")
    assert read_pickle(tmp_path / "p") == ["café", 3]


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value, value]
    return value


LOOP: list = []
LOOP.append(LOOP)
BAD_PICKLES: dict[str, bytes] = {
    "call": pickle.dumps([Evil()]),
    "class": pickle.dumps(Path("x")),
    "builtin": pickle.dumps(range(3)),
    "set": pickle.dumps({1}),
    "none": pickle.dumps(None),
    "objects": pickle.dumps(np.array([None, 1])),
    "records": pickle.dumps(np.zeros(2, dtype=[("a", "f4")])),
    "loop": pickle.dumps(LOOP),
    "deep": pickle.dumps(nested(40)),
    "bare type": b"cnumpy\ndtype\n.",
    "attributes of what it is given": b"c_codecs\nencode\n(N}S'__name__'\nS'x'\nstb.",
    "empty": b"",
    "text": b"not a pickle",
    "cut": pickle.dumps(list(range(100)))[:-20],
}


@pytest.mark.parametrize("case", BAD_PICKLES)
def test_other_pickles_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").write_bytes(BAD_PICKLES[case])
    with pytest.raises(ValueError, match="not a pickle of lists, strings, numbers and arrays") as caught:
        read_pickle(tmp_path / "p")
    assert "\n" not in str(caught.value)
    assert not Path("pickle-was-run").exists()


@pytest.mark.parametrize(
    "data",
    [b"\x80\x02]r\xff\xff\xff\x0f.", b"\x80\x02]r\xff\xff\xff\x7f0N.", b"]p268435455\n."],
    ids=["LONG_BINPUT", "LONG_BINPUT and POP", "PUT"],
)
def test_a_few_bytes_do_not_allocate_gigabytes(data: bytes, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (tmp_path / "p").write_bytes(data)
    try:
        assert read_pickle(tmp_path / "p") == []
    except ValueError as error:
        assert str(error).startswith(f"{tmp_path / 'p'}: ")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB
