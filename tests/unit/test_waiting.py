"""Waiting for descriptors, whatever their numbers are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.sources.waiting import Waiter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_what_brings_something_is_told(pipe: tuple[int, int]) -> None:
    """What only takes something ends the wait, and is not."""
    out, into = pipe
    waiter = Waiter()
    assert waiter.wait([out], [], 0) == []
    assert waiter.wait([out], [into], 10) == []
    os.write(into, b"x")
    for _ in range(2):
        assert waiter.wait([out], [into], 10) == [out]
    assert waiter.wait([], [into], 10) == []


def test_one_that_is_waited_for_in_both_ways_is_told_for_what_it_brings(pipe: tuple[int, int]) -> None:
    """As the broker's socket, while something is to be sent."""
    out, into = pipe
    os.write(into, b"x")
    assert Waiter().wait([out], [out], 10) == [out]
    assert Waiter().wait([into], [into], 10) == []


def test_an_end_and_a_plain_file_bring_something(tmp_path: Path) -> None:
    """There is something to read, if only that there is no more."""
    out, into = os.pipe()
    os.close(into)
    file = os.open(tmp_path, os.O_RDONLY)
    assert sorted(Waiter().wait([out, file], [], 10)) == sorted([out, file])
    os.close(out)
    os.close(file)


def test_one_that_is_not_open_is_an_error() -> None:
    """Otherwise the loop would never wait again, and nobody would know why."""
    out, into = os.pipe()
    for end in (out, into):
        os.close(end)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Waiter().wait([out], [], 0)


def test_a_number_that_is_used_again_is_another_file(pipe: tuple[int, int]) -> None:
    """A connection that is made anew often has the number of the one before."""
    out, into = pipe
    waiter = Waiter()
    assert waiter.wait([out], [], 0) == []
    other, its_into = os.pipe()
    os.dup2(other, out)
    os.write(its_into, b"x")
    assert waiter.wait([out], [], 10) == [out]
    os.write(into, b"")
    for end in (other, its_into):
        os.close(end)
