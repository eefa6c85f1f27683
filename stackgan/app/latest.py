"""The newest request of a visitor: work for an earlier one finds out that it is out of date, and stops.

An event handler outside the queue calls :meth:`Latest.ask` with the inputs of the page, and the queued handler that
follows it calls :meth:`Latest.take`::

    latest = gr.State(Latest())                    # Gradio copies it for every visitor
    asked = gr.on([...], **asking(latest, Request, controls))
    asked.then(paint, latest, output, trigger_mode="always_last")

    def paint(latest):
        work = latest.take()
        for image in generate(*work.request) if work else ():
            if not work.current:
                return
            yield image
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import gradio as gr

__all__ = ["Latest", "Work", "asking"]

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

    def ask(self, request: _T, sent: float | None = None) -> None:
        """Replace the request; work for the one before is out of date at once.

        Args:
            sent: time at which the browser sent it. Requests overtake each other on the way; one that was sent before
                another that has come already is dropped.
        """
        if sent is not None:
            if sent < self._sent:
                return
            self._sent = sent
        self.number += 1
        self._waiting = Work(request, self.number, self)

    def take(self) -> Work[_T] | None:
        """The newest request, once; None if there is none that was not taken."""
        work, self._waiting = self._waiting, None
        return work

    def cancel(self) -> None:
        """Make the work in progress and the waiting request, if any, out of date."""
        self.number += 1
        self._waiting = None


def asking(latest: Any, request: Callable[..., object], inputs: Sequence[Any]) -> dict[str, Any]:
    """Arguments of an event at which ``request(*values of inputs)`` is asked for, with the time in the browser.

    Args:
        latest: component with the visitor's :class:`Latest`.
    """

    def on_ask(latest: Latest[Any], *values: Any) -> None:
        *given, sent = values
        latest.ask(request(*given), sent)

    return {
        "fn": on_ask,
        "inputs": [latest, *inputs, gr.Number(visible=False)],
        "outputs": None,
        "js": "(...inputs) => [...inputs.slice(0, -1), performance.timeOrigin + performance.now()]",
        "trigger_mode": "multiple",  # none is dropped or delayed while another is on its way
        "queue": False,
        "api_visibility": "private",
        "show_progress": "hidden",
    }
