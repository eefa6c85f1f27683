"""The newest request of a visitor: work for an earlier one finds out that it is out of date, and stops.

Events whose requests replace each other are connected by :func:`connect_newest`. Each is sent twice:
outside the queue, where it stops the work for an earlier one at once, and into the queue, where the work is done.
With a button that waits for its turn, :meth:`Latest.ask` is called by its handler outside the queue, and
:meth:`Latest.take` by the queued handler that follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import gradio as gr

from stackgan.app.components import QUICK

__all__ = ["Latest", "Work", "connect_newest"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Work(Generic[_T]):
    """A request that was taken; ``current`` is False once there is a newer one."""

    request: _T
    number: int
    asked: Latest[_T]

    @property
    def current(self) -> bool:
        return self.number == self.asked.number


class Latest(Generic[_T]):
    """The newest request of one visitor, and how many there were before it.

    >>> latest: Latest[str] = Latest()
    >>> latest.ask("a red bird")
    >>> work = latest.take()
    >>> work.request, work.current, latest.take()
    ('a red bird', True, None)
    >>> latest.ask("a blue bird")
    >>> work.current, latest.take().request
    (False, 'a blue bird')
    """

    def __init__(self) -> None:
        self.number = 0
        self._waiting: Work[_T] | None = None
        self._sent = 0.0
        self._newest: _T | None = None

    def ask(self, request: _T, sent: float | None = None) -> None:
        """Replace the request; work for the one before is out of date at once.

        Args:
            sent: time at which the browser sent it. Requests overtake each other on the way: one that was sent before
                another that has come already is dropped, and one that equals the newest is that one again.
        """
        if sent is not None:
            if sent < self._sent:
                return
            self._sent = sent
            if request == self._newest:
                return
        self.number += 1
        self._newest = request
        self._waiting = Work(request, self.number, self)

    def begin(self, request: _T, sent: float) -> Work[_T] | None:
        """:meth:`ask`, and the work for it; None if it is out of date already."""
        self.ask(request, sent)
        return Work(request, self.number, self) if request == self._newest else None

    def take(self) -> Work[_T] | None:
        """The newest request, once; None if there is none that was not taken."""
        work, self._waiting = self._waiting, None
        return work

    def cancel(self) -> None:
        """Make the work in progress and the waiting request, if any, out of date."""
        self.number += 1
        self._waiting = self._newest = None


def connect_newest(
    events: Iterable[Callable[..., Any]],
    request: Callable[..., object],
    inputs: Sequence[Any],
    work: Callable[..., Iterator[Any]],
    states: Sequence[Any],
    outputs: Sequence[Any],
    **options: Any,
) -> None:
    """Work on ``request(*values of inputs)`` at each of the events; only the newest is finished.

    Args:
        events: functions that add a listener, such as ``partial(gr.on, triggers)`` or ``dependency.then``.
        work: yields values of ``outputs`` for a :class:`Work` and the values of ``states``; ends early when it is not
            current any more. It may yield nothing.
        options: of the listener that works, such as ``show_progress``.
    """
    latest: Any = gr.State(Latest())  # Gradio copies it for every visitor
    sent = gr.Number(visible=False)
    kept = (gr.skip(),) * len(outputs)

    def on_ask(sent: float, latest: Latest[Any], *given: Any) -> None:
        latest.ask(request(*given), sent)

    def on_change(sent: float, latest: Latest[Any], *values: Any) -> Iterator[Any]:
        begun = latest.begin(request(*values[: len(inputs)]), sent)
        empty = True
        if begun is not None:
            for value in work(begun, *values[len(inputs) :]):
                empty = False
                yield value
        if empty:  # Gradio takes a generator without values for one that failed
            yield kept if len(kept) > 1 else gr.skip()

    ask = {"fn": on_ask, "inputs": [sent, latest, *inputs], "outputs": None, **QUICK}
    change = {"fn": on_change, "inputs": [sent, latest, *inputs, *states], "outputs": list(outputs), **options}
    change["api_visibility"] = "private"
    for event in events:
        event(**ask, js=_stamped(ask["inputs"]), trigger_mode="multiple")  # none waits for another
        event(**change, js=_stamped(change["inputs"]), trigger_mode="always_last")


def _stamped(inputs: Any) -> str:
    """JavaScript that replaces the first of the inputs by the time."""
    return f"(_, ...inputs) => [performance.timeOrigin + performance.now(), ...inputs.slice(0, {len(inputs) - 1})]"
