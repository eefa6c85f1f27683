"""Threads of small operations: restored afterwards, and codes and styles do not depend on their number."""

from collections.abc import Iterator

import pytest
import torch

from stackgan.runtime.threads import one_thread
from tests.tiny import CAPTIONS, tiny_pipeline


@pytest.fixture
def threads() -> Iterator[None]:
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


def test_the_number_is_restored_even_after_an_error(threads: None) -> None:
    for number in (3, 1):
        torch.set_num_threads(number)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == number
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert torch.get_num_threads() == number


def test_captions_and_styles_are_computed_with_one(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny_pipeline(stages=1)
    seen: list[tuple[str, int]] = []

    def watch(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def watched(*values: object, **options: object) -> object:
            seen.append((name, torch.get_num_threads()))
            return original(*values, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(pipe.text_encoder, "encode")
    watch(pipe.model, "condition")
    watch(pipe.model.prior, "forward")
    generate = pipe.generator
    monkeypatch.setattr(
        pipe, "generator", lambda *values: seen.append(("generator", torch.get_num_threads())) or generate(*values)
    )
    torch.set_num_threads(3)
    pipe(list(CAPTIONS[:2]), seeds=[1, 2])
    assert {name for name, _ in seen} == {"encode", "condition", "forward", "generator"}
    assert all(number == (3 if name == "generator" else 1) for name, number in seen)
