"""Calls of several threads in one batch: whose rows they get, what joins, errors, and exactness on the machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from stackgan.app.dynamic_batching import DynamicBatching, shared
from tests.tiny import CAPTIONS, tiny_pipeline


class Recorded:
    """A generator of stages z + c, 10 (z + c), …; ``sizes`` are those of its batches, ``inexact`` some that round."""

    def __init__(self, stages: int = 1, inexact: Collection[int] = ()) -> None:
        self.stages, self.inexact = stages, inexact
        self.sizes: list[int] = []

    def __call__(self, z: Tensor, c: Tensor, stages: Sequence[int] | None) -> list[Tensor]:
        self.sizes.append(len(z))
        if bool((z == 13).any()):
            raise ValueError("an unlucky style")
        rounding = 1e-3 if len(z) in self.inexact else 0
        return [(10**stage) * (z + c + rounding) for stage in (range(self.stages) if stages is None else stages)]


def results(batching: DynamicBatching, calls: Sequence[tuple[float, int, list[int] | None]]) -> list[object]:
    """Images, or the error, of calls (value, rows, stages) that all wait before the first is computed, in order."""
    found: list[object] = [None] * len(calls)
    waiting = threading.Semaphore(0)

    class Ordered:
        def submit(self, _: Callable[[], None]) -> None:
            waiting.release()

    batching._thread = Ordered()  # type: ignore[assignment]

    def ask(number: int) -> None:
        value, rows, stages = calls[number]
        try:
            found[number] = batching(torch.full((rows, 2), value), torch.zeros(rows, 2), stages)
        except ValueError as error:
            found[number] = str(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
        waiting.acquire()  # it waits for its images
    for _ in calls:
        batching._compute()
    for thread in threads:
        thread.join()
    return found


def values(images: object) -> list[list[float]]:
    assert isinstance(images, list)
    return [stage[:, 0].tolist() for stage in images]


def test_calls_that_wait_are_one_batch_and_get_their_own_rows() -> None:
    generate = Recorded(stages=2)
    batching = DynamicBatching(generate, stages=2, most=8)
    found = results(batching, [(float(n), 1 + n % 2, [0]) for n in range(5)])
    assert [values(images) for images in found] == [[[float(n)] * (1 + n % 2)] for n in range(5)]
    assert generate.sizes == [*[1] * 7, 7, 7]  # the first are those of the check


def test_a_batch_holds_no_more_than_most_and_nobody_is_overtaken() -> None:
    generate = Recorded()
    batching = DynamicBatching(generate, stages=1, most=4)
    found = results(batching, [(float(n), rows, None) for n, rows in enumerate([3, 2, 1, 9])])
    assert generate.sizes == [1, 1, 1, 3, 3, 3, 1, 1, 1, 1, 4, 4, 4, 1]  # 3, then 2 + 1, then 9 rows
    assert [len(values(images)[0]) for images in found] == [3, 2, 1, 9]


def test_later_stages_and_other_stages_do_not_join() -> None:
    generate = Recorded(stages=2)
    found = results(
        DynamicBatching(generate, stages=2), [(1.0, 1, [1]), (2.0, 1, [1]), (3.0, 1, None), (4.0, 1, None)]
    )
    assert generate.sizes == [1, 1, 1, 1]
    assert [values(images) for images in found] == [[[10.0]], [[20.0]], [[3.0], [30.0]], [[4.0], [40.0]]]
    generate = Recorded()
    results(DynamicBatching(generate, stages=1), [(1.0, 1, [0]), (2.0, 1, None)])
    assert generate.sizes[-2:] == [1, 1]


def test_an_error_is_that_of_its_call_alone() -> None:
    found = results(DynamicBatching(Recorded(), stages=1), [(1.0, 1, None), (13.0, 1, None), (2.0, 1, None)])
    assert values(found[0]) == [[1.0]] and values(found[2]) == [[2.0]]
    assert found[1] == "an unlucky style"
    found = results(DynamicBatching(Recorded(), stages=1), [(13.0, 1, None)])
    assert found == ["an unlucky style"]


@pytest.mark.parametrize(
    ("inexact", "batches"),
    [((), [7]), ((7,), [6, 1]), ((5, 6, 7), [4, 3]), ((2, 4, 6, 7), [5, 1, 1]), (range(2, 9), [1] * 7)],
)
def test_batches_have_sizes_that_are_exact(inexact: Collection[int], batches: list[int]) -> None:
    generate = Recorded(inexact=inexact)
    batching = DynamicBatching(generate, stages=1)
    found = results(batching, [(1.0, 1, None), (2.0, 4, None), (3.0, 2, None)])
    assert [values(images) for images in found] == [[[1.0]], [[2.0] * 4], [[3.0] * 2]]
    generate.sizes.clear()
    results(batching, [(1.0, 1, None), (2.0, 4, None), (3.0, 2, None)])
    assert generate.sizes == batches


def test_a_pipeline_of_many_threads_gives_the_images_of_one() -> None:
    pipe, alone = shared(tiny_pipeline(stages=1)), tiny_pipeline(stages=1)
    assert shared(pipe) is pipe and isinstance(pipe.generator, DynamicBatching)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: pipe(CAPTIONS[seed % len(CAPTIONS)], seeds=seed).images[0], range(40)))
    for seed, image in enumerate(found):
        assert image.tobytes() == alone(CAPTIONS[seed % len(CAPTIONS)], seeds=seed).images[0].tobytes()
