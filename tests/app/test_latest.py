"""The newest request, and work that is out of date."""

from copy import deepcopy

from stackgan.app.latest import Latest


def test_a_newer_request_replaces_a_waiting_one_and_stops_the_work() -> None:
    latest: Latest[str] = Latest()
    assert latest.take() is None
    latest.ask("first")
    first = latest.take()
    assert first is not None and first.current
    latest.ask("second")
    latest.ask("third")
    third = latest.take()
    assert third is not None and third.request == "third" and third.current and not first.current
    assert latest.take() is None


def test_cancelled_work_is_out_of_date() -> None:
    latest: Latest[int] = Latest()
    latest.ask(1)
    work = latest.take()
    latest.ask(2)
    latest.cancel()
    assert work is not None and not work.current and latest.take() is None


def test_copies_of_the_initial_value_are_independent() -> None:
    initial: Latest[int] = Latest()
    mine, other = deepcopy(initial), deepcopy(initial)
    mine.ask(1)
    work = mine.take()
    other.ask(2)
    assert work is not None and work.current


def test_a_request_that_was_overtaken_is_dropped() -> None:
    latest: Latest[str] = Latest()
    latest.ask("second", 2.0)
    latest.ask("first", 1.5)
    work = latest.take()
    assert work is not None and work.request == "second"
    latest.ask("first", 1.0)
    assert work.current and latest.take() is None
    latest.ask("third", 2.0)
    assert not work.current and latest.take() is not None


def test_the_same_request_by_two_ways_is_one() -> None:
    latest: Latest[str] = Latest()
    latest.ask("first", 1.0)
    work = latest.begin("first", 1.1)
    assert work is not None and work.current
    latest.ask("first", 1.2)
    assert work.current  # the way outside the queue may be the slower one
    latest.ask("second", 2.1)
    assert not work.current and latest.begin("first", 1.9) is None
    second = latest.begin("second", 2.0)
    assert second is not None and second.current and latest.begin("first", 3.0) is not None and not second.current
