"""`edgetool watch` runs for weeks: nothing in it grows."""

from __future__ import annotations

import threading

from edgetool.commands.watch import _Arrived, _Told


def test_events_are_told_once_and_old_ones_are_forgotten() -> None:
    """An event comes again soon after a lost connection, or never; names may be of any length."""
    told = _Told()
    assert all(told.is_new((f"id-{number}" + "x" * 1000, "raise", "t")) for number in range(30_000))
    assert not any(told.is_new((f"id-{number}" + "x" * 1000, "raise", "t")) for number in range(20_000, 30_000))
    assert len(told._keys) == 10_000


def put_all(arrived: _Arrived) -> None:
    for number in range(1000):
        arrived.put(b"%d" % number)


def test_what_arrives_waits_for_room_and_not_for_ever() -> None:
    """A viewer that stands still fills no memory; when watching ends, whoever waits goes on."""
    with _Arrived() as arrived:
        arrived.put(b"x" * (2 << 20))
        assert arrived.get() is None
        waiting = threading.Thread(target=put_all, args=(arrived,))
        waiting.start()
        assert [arrived.get() for _ in range(50)] == [b"%d" % number for number in range(50)]
        assert waiting.is_alive()
        assert arrived._queue.qsize() <= 100
    waiting.join(5)
    assert not waiting.is_alive()
