"""Strategies for damaged files, and the decorator of all fuzzed tests.

``FUZZ_CASES=10000 python -m pytest tests/fuzz`` tries as many cases per test; by default there are 100, always the
same ones.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["JSON_TOKENS", "altered", "json_values", "mutated", "some_cases", "within"]

CASES = int(os.environ.get("FUZZ_CASES", "100"))
SECONDS = 20  # of CPU time; a case that takes longer counts as a hang

JSON_TOKENS = [
    b"1e400", b"-1e999", b"NaN", b"Infinity", b"[" * 5000, b"{" * 70, b'{"a":' * 100, b"9" * 5000, b"\\ud83d",
    b"\xff", b"\xed\xa0\x80", b"\0", b"\xef\xbb\xbf", b'"', b"\\", b",", b":", b"}", b"]", b"null", b"true", b"-0",
    b"0.5", b"\r", b"\n", b"18446744073709551616", b"9223372036854775808", b'"x": 1, "x": 2',
]  # fmt: skip


def some_cases(test: Callable[..., None]) -> Callable[..., None]:
    """Run with ``CASES`` examples, each within ``SECONDS``."""

    @functools.wraps(test)
    def timed(*args: Any, **arguments: Any) -> None:
        with within(SECONDS):
            test(*args, **arguments)

    return settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize="FUZZ_CASES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )(timed)


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Context that raises TimeoutError after some seconds of CPU time, where the system has such timers.

    Not of wall time, as a busy machine may stop any process for a while.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"not finished after {seconds} s of CPU time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[bytes], tokens: Sequence[bytes] = (b"\0", b"\xff" * 4)) -> bytes:
    """A valid file with up to five parts overwritten, deleted, repeated or replaced; sometimes any bytes."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=300))
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(data)))
        end = min(len(data), place + draw(st.integers(0, 12)))
        part = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(tokens),
                st.just(b""),
                st.just(data[place:end] * 2),
                st.just(bytes(byte ^ 0x80 for byte in data[place:end])),
            )
        )
        data = data[:place] + part + data[end:]
        if draw(st.integers(0, 9)) == 0:
            data = data[:place]
    return data


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.integers(-3, 300)
    | st.floats(width=64)
    | st.text(max_size=8)
    | st.sampled_from(["", "/", "..", "x" * 300, "\ud800", "train", "1e400"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from _paths(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield (*path, number)
            yield from _paths(item, (*path, number))


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with up to three of its parts replaced by any value, deleted or renamed."""
    result = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(_paths(result))
        if not paths:
            return draw(json_values)
        path = draw(st.sampled_from(paths))
        holder = result
        for key in path[:-1]:
            holder = holder[key]
        kind = draw(st.integers(0, 5))
        if kind == 0:
            del holder[path[-1]]
        elif kind == 1 and isinstance(holder, dict):
            holder[draw(st.text(max_size=6))] = holder.pop(path[-1])
        else:
            holder[path[-1]] = draw(json_values)
    return result


def as_json(value: object) -> bytes:
    """The value as JSON that Python writes, with NaN and lone surrogates as they are."""
    return json.dumps(value).encode()


def altered_json(value: Any) -> st.SearchStrategy[bytes]:
    """A JSON file: altered values, or mutated bytes."""
    return altered(value).map(as_json) | mutated([json.dumps(value, indent=1).encode()], JSON_TOKENS)
