"""What a process was working on when it ended, the next one knows; no message ends a third."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.agent.in_hand import InHand, runtime_file
from edge_agent.agent.set_aside import SetAside
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import Topic

FILE = "in-hand"


def deliveries(*payloads: bytes) -> list[Delivery]:
    return [Delivery(Topic(b"sensors/a1/x"), payload, mid, False) for mid, payload in enumerate(payloads, 1)]


A, B, C, D = deliveries(b"a", b"b", b"c", b"d")


def dies_over(file: Path, batch: list[Delivery], poison: Delivery) -> list[list[Delivery]]:
    """A process that takes a batch and ends at one of its messages; gives the parts that it began."""
    hand = InHand(file)
    begun = []
    for part in hand.parts(hand.sift(batch)[0]):
        begun.append(part)
        if poison in part:
            return begun
    return begun


def test_a_batch_is_one_part_where_nothing_has_happened(tmp_path: Path) -> None:
    """The same list, so that nothing is copied."""
    hand, batch = InHand(tmp_path / FILE), [A, B]
    assert [part is batch for part in hand.parts(batch)] == [True]
    assert hand.sift(batch)[0] is batch


def test_what_ended_two_runs_is_set_aside(tmp_path: Path) -> None:
    """The first end makes suspects, which go one by one; the second names one of them."""
    file = tmp_path / FILE
    assert dies_over(file, [A, B, C], B) == [[A, B, C]]
    assert dies_over(file, [A, B, C, D], B) == [[A], [B]]
    hand = InHand(file)
    assert hand.sift([A, B, C, D]) == ([A, C, D], [B])
    # A was worked on without harm since, C was not.
    assert list(hand.parts([A, C, D])) == [[A], [C], [D]]
    assert list(hand.parts([A, C, D])) == [[A, C, D]]
    del hand
    assert InHand(file).sift([B, A]) == ([A], [B])


def test_another_message_in_a_second_end_is_a_suspect_only(tmp_path: Path) -> None:
    """Whatever else may end a process, it takes two ends at the same message."""
    file = tmp_path / FILE
    dies_over(file, [A, B], B)
    dies_over(file, [C, D], D)
    hand = InHand(file)
    assert hand.sift([A, B, C, D]) == ([A, B, C, D], [])
    assert list(hand.parts([A, B, C, D])) == [[A], [B], [C], [D]]


@pytest.mark.parametrize("other", [Delivery(Topic(b"sensors/a2/x"), b"b", 2, False), deliveries(b"", b"B")[1]])
def test_only_this_message_is_set_aside(tmp_path: Path, other: Delivery) -> None:
    """The same topic with another payload, and the other way round, are other messages."""
    for _ in range(2):
        dies_over(tmp_path / FILE, [B], B)
    assert InHand(tmp_path / FILE).sift([other, B]) == ([other], [B])


def test_after_an_end_between_two_batches_nobody_is_suspected(tmp_path: Path) -> None:
    """Such as a kill while the agent waits."""
    hand = InHand(tmp_path / FILE)
    assert list(hand.parts([A, B])) == [[A, B]]
    again = InHand(tmp_path / FILE)
    assert list(again.parts([A, B])) == [[A, B]]


def test_an_end_in_good_order_leaves_no_file(tmp_path: Path) -> None:
    """Unless a message is set aside."""
    hand = InHand(tmp_path / FILE)
    assert (tmp_path / FILE).exists()
    hand.close()
    assert not (tmp_path / FILE).exists()
    for _ in range(2):
        dies_over(tmp_path / FILE, [B], B)
    InHand(tmp_path / FILE).close()
    assert InHand(tmp_path / FILE).sift([B]) == ([], [B])


def test_many_that_are_set_aside_and_large_batches_keep_their_bounds(tmp_path: Path) -> None:
    """The file has one size; the last 64 stay set aside, and of a batch 4,096 messages are noted."""
    many = deliveries(*(b"%d" % number for number in range(5000)))
    for message in many[:65]:
        for _ in range(2):
            dies_over(tmp_path / FILE, [message], message)
    hand = InHand(tmp_path / FILE)
    assert hand.sift(many[:65]) == ([many[0]], many[1:65])
    del hand
    dies_over(tmp_path / FILE, many[65:], many[-1])
    assert len(list(InHand(tmp_path / FILE).parts(many[65:]))) == 4096 + 1


@pytest.mark.parametrize("kind", ["garbage", "link", "pipe", "folder", "missing"])
def test_a_file_that_cannot_be_used_is_no_reason_not_to_work(tmp_path: Path, kind: str) -> None:
    """Nothing is remembered then, and nothing outside is written to."""
    file, target = tmp_path / FILE, tmp_path / "target"
    target.write_bytes(b"")
    makes: dict[str, Callable[[], object]] = {
        "garbage": lambda: file.write_bytes(os.urandom(100_000)),
        "link": lambda: file.symlink_to(target),
        "pipe": lambda: os.mkfifo(file),
        "folder": file.mkdir,
        "missing": lambda: None,
    }
    makes[kind]()
    hand = InHand(tmp_path / "nowhere" / FILE if kind == "missing" else file)
    assert hand.sift([A, B]) == ([A, B], [])
    assert list(hand.parts([A, B])) == [[A, B]]
    assert target.read_bytes() == b""


def test_a_file_in_use_is_left_to_who_has_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two containers may share the runtime folder, and each have a state folder of the same name."""
    file = tmp_path / FILE
    first = InHand(file)
    parts = first.parts([A, B])
    assert next(parts) == [A, B]
    second = InHand(file)
    assert "another agent uses it, give each a runtime_dir of its own" in caplog.text
    assert "ended over" not in caplog.text
    assert list(second.parts([A, B])) == [[A, B]]
    second.close()
    del first, parts
    assert list(InHand(file).parts([A, B])) == [[A], [B]]


def test_the_file_is_of_one_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder that is configured, else the service manager's, else the user's."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/other")
    first, second = runtime_file(None, tmp_path / "one"), runtime_file("", tmp_path / "two")
    assert first is not None
    assert second is not None
    assert first.parent == second.parent == tmp_path
    assert first != second
    (tmp_path / "mine").mkdir()
    assert runtime_file(str(tmp_path / "mine"), tmp_path / "one") == tmp_path / "mine" / first.name
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "mine"))
    assert runtime_file(None, tmp_path / "one") == tmp_path / "mine" / first.name


@pytest.mark.parametrize("given", ["not-there", "a-file", "x" * 300])
def test_a_folder_that_cannot_be_used_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """A name that the system refuses to look at ended the agent."""
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    used = runtime_file(str(tmp_path / given), tmp_path / "one")
    assert used is not None
    assert used.parent == tmp_path


def test_a_folder_without_the_right_to_write_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another user's `$XDG_RUNTIME_DIR`, which `su` leaves in place."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != theirs)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(ours))
    used = runtime_file(str(theirs), tmp_path / "one")
    assert used is not None
    assert used.parent == ours


def test_a_message_is_told_of_once_and_kept(tmp_path: Path) -> None:
    """By an event whose id is always the same; eight are kept, and told of are 64."""
    told = SetAside("g1", tmp_path)
    event = told.add("pump", A)
    assert event is not None
    assert event[0] == "edge/g1/alerts/pump/"
    assert told.add("pump", A) is None
    (kept,) = tmp_path.glob("set-aside-*.payload")
    assert kept.read_bytes() == b"a"
    more = [told.add("pump", each) for each in deliveries(*(b"%d" % number for number in range(100)))]
    assert sum(each is not None for each in more) == 63
    assert len([*tmp_path.glob("set-aside-*.payload")]) == 8
