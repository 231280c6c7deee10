"""No message is scored twice, and none is taken for another."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edge_agent.files.checksum import seal
from edge_agent.messages.delivery import Delivery, fingerprints
from edge_agent.messages.topic import RETAINED, Topic
from edge_agent.sources.decode import Decoder
from edge_agent.sources.repeats import Repeats
from edge_agent.sources.sessions import Sessions

TOPIC = Topic(b"sensors/a1/x")


def delivery(payload: bytes, mid: int, *, again: bool = False) -> Delivery:
    return Delivery(TOPIC, payload, mid, again)


def has_time(message: Delivery) -> bool:
    return b'"time":' in message.payload


def scored(*deliveries: Delivery) -> Repeats:
    committed: list[bytes] = []
    repeats = Repeats(lambda: committed, has_time=has_time)
    score(repeats, committed, list(deliveries))
    return repeats


def score(repeats: Repeats, committed: list[bytes], batch: list[Delivery]) -> None:
    repeats.unscored(batch)
    committed.append(repeats.packed(batch))


def test_what_the_broker_sends_again_after_a_commit_is_known() -> None:
    """Same identifier, same content, flagged: the acknowledgement got lost, the score did not."""
    repeats = scored(delivery(b'{"p": 1}', 7))
    assert repeats.unscored([delivery(b'{"p": 1}', 7, again=True)]) == []


def test_a_topic_is_known_by_its_name() -> None:
    """Whichever object stands for it; another topic's is another message, whatever memory its object got."""
    first = Delivery(Topic(b"sensors/a1/x"), b'{"time": 1}', 1, False)
    repeats = scored(first)
    same = Delivery(Topic(b"sensors/a1/x"), first.payload, 2, False)
    other = Delivery(Topic(b"sensors/a2/x"), first.payload, 3, False)
    assert repeats.unscored([same, other]) == [other]


def test_what_the_broker_sends_again_before_a_commit_is_scored() -> None:
    """It was taken and not committed, so it counts as never seen."""
    again = delivery(b'{"p": 2}', 8, again=True)
    assert scored(delivery(b'{"p": 1}', 7)).unscored([again]) == [again]


def test_an_unchanged_value_is_a_new_reading() -> None:
    """Equal payloads without a time, one after the other, each count; also under a reused identifier."""
    repeats = scored(delivery(b'{"p": 1}', 7))
    fresh = [delivery(b'{"p": 1}', 8), delivery(b'{"p": 1}', 7)]
    assert repeats.unscored(fresh) == fresh


def test_a_sender_that_repeats_a_timed_reading_is_seen_through() -> None:
    """A new message for the broker, but time and values are those of a reading that was scored."""
    timed = b'{"time": 5, "p": 1}'
    assert scored(delivery(timed, 7)).unscored([delivery(timed, 99)]) == []


def test_what_only_looks_like_a_time_makes_no_repetition() -> None:
    """Whoever can read the message is asked, and only about messages that are known."""
    asked: list[Delivery] = []

    def has_time(message: Delivery) -> bool:
        asked.append(message)
        return b'"time": 5' in message.payload

    repeats = Repeats(has_time=has_time)
    batch = [delivery(b'{"mode": "time", "p": 1}', 1), delivery(b'{"time": 5, "p": 1}', 2)]
    for _ in range(2):
        fresh = repeats.unscored(batch)
    assert fresh == batch[:1]
    assert asked == batch
    repeats.unscored(batch[:1])
    assert asked == batch, "what has no time is parsed once"


def test_a_repetition_inside_one_batch_is_seen() -> None:
    """The first counts."""
    timed = b'{"time": 5, "p": 1}'
    assert Repeats().unscored([delivery(timed, 1), delivery(timed, 2)]) == [delivery(timed, 1)]


def test_a_crash_forgets_nothing() -> None:
    """The journal's keys bring back what the broker may send again."""
    batch = [delivery(b'{"p": 1}', 7), delivery(b'{"p": 2}', 8), delivery(b"qos 0", 0)]
    restarted = Repeats(lambda: [Repeats().packed(batch)], has_time=has_time)
    again = [replace(one, redelivered=True) for one in batch]
    assert restarted.unscored(again) == [again[2]]


@pytest.mark.parametrize("again", [False, True], ids=["", "flagged"])
@pytest.mark.parametrize("mid", [7, 99])
@pytest.mark.parametrize("kept", [False, True], ids=["session_lost", "session_kept"])
def test_with_a_time_the_content_alone_decides(mid: int, *, again: bool, kept: bool) -> None:
    """Brokers send again under any identifier, with and without the flag and the session; also to a new process."""
    timed = b'{"time": 5, "p": 1}'
    visits = Visits()
    visits.connect("a", kept=False)
    assert visits.score(delivery(timed, 7)) == 1
    for crashes in (False, True):
        if crashes:
            visits.start()
        visits.connect("a", kept=kept)
        assert visits.score(delivery(timed, mid, again=again)) == 0
    assert visits.score(delivery(b'{"time": 5, "p": 2}', mid, again=again)) == 1


def test_what_is_forgotten_is_new_when_it_comes_again() -> None:
    """A rejected message; its key in the journal is that of no message."""
    timed = b'{"time": 5, "p": 1}'
    committed: list[bytes] = []
    repeats = Repeats(lambda: committed, has_time=has_time)
    one, other = delivery(timed, 7), delivery(b'{"time": 6, "p": 1}', 8)
    repeats.unscored([one, other])
    repeats.forget([one])
    committed.append(repeats.packed([one, other], [0, *fingerprints([other])]))
    for memory in (repeats, Repeats(lambda: committed, has_time=has_time)):
        assert memory.unscored([one, other]) == [one]


def test_keys_of_an_older_agent_are_those_of_no_message() -> None:
    """They were of eight bytes; what comes again after an update in place is scored, and nothing else is lost."""
    restarted = Repeats(lambda: [bytes(range(64))], has_time=has_time)
    batch = [delivery(b'{"time": %d}' % number, number + 1, again=True) for number in range(8)]
    assert restarted.unscored(batch) == batch


def test_a_retained_copy_takes_no_place_of_a_reading() -> None:
    """It is acknowledged like one and never scored."""
    repeats = scored(delivery(b"1", 1))
    assert repeats.packed([Delivery(RETAINED, b"", 7, False)]) == b""
    assert len(repeats.packed([delivery(b"1", 1)])) == 12


def test_memory_is_bounded() -> None:
    """The oldest is forgotten first; some thousands are known."""
    committed: list[bytes] = []
    repeats = Repeats(lambda: committed, has_time=has_time)
    batches = [[delivery(b'{"time": %d}' % number, number + 1)] for number in range(10_000)]
    for batch in batches:
        score(repeats, committed, batch)
    again = [batch[0] for batch in batches]
    assert repeats.unscored(again[-4096:]) == []
    assert len(repeats.unscored(again)) in range(10_000 - 8192, 10_000 - 4095)
    assert Repeats(lambda: committed, has_time=has_time).unscored(again[-8192:]) == []
    flagged = [replace(one, payload=b"%d" % one.mid, redelivered=True) for one in again]
    committed[:] = [repeats.packed([one]) for one in flagged]
    assert repeats.unscored(flagged) == flagged[: 10_000 - 8192]


def test_a_repeated_message_in_senml_is_seen_through() -> None:
    """Its time is called `t`, or `bt` for a whole pack."""
    decoder = Decoder(["p"])
    for payload in (b'[{"n":"p","t":1.7e9,"v":1}]', b'[{"bn":"x/","bt":1.7e9,"n":"p","v":1}]'):
        repeats = Repeats(has_time=lambda message: decoder.has_time(message.payload))
        assert repeats.unscored([delivery(payload, 7)]) == [delivery(payload, 7)]
        assert repeats.unscored([delivery(payload, 8)]) == []


class Visits:
    """An agent's memory over connections to two brokers, and over its own restarts."""

    def __init__(self) -> None:
        self.committed: list[bytes] = []
        self._record: bytes | None = None
        self.start()

    def start(self) -> None:
        """A new process has what the journal has."""
        self.repeats = Repeats(lambda: self.committed, has_time=has_time, sessions=Sessions(self._record))

    def connect(self, address: str, *, kept: bool) -> None:
        self.repeats.connected(address, kept)
        if self.repeats.sessions.has_news:
            self._record = self.repeats.sessions.record()

    def score(self, *messages: Delivery) -> int:
        """How many of them are new; all of them are acknowledged as scored."""
        fresh = self.repeats.unscored([*messages])
        self.committed.append(self.repeats.packed([*messages]))
        return len(fresh)


VALUE = b'{"p": 1}'
"""A reading without a time: an equal one is a new one."""


def test_a_new_session_begins_with_the_same_identifiers() -> None:
    """So what is sent again there was never scored, however equal it is; also where the agent crashed between."""
    for crashes in (False, True):
        visits = Visits()
        visits.connect("a", kept=False)
        assert visits.score(delivery(VALUE, 1)) == 1
        visits.connect("a", kept=False)
        if crashes:
            visits.start()
            visits.connect("a", kept=True)
        assert visits.score(delivery(VALUE, 1, again=True)) == 1


def test_what_was_scored_at_one_broker_is_known_when_it_is_back() -> None:
    """After ten thousand readings of another one, and a restart; nothing of that other one is taken for it."""
    visits = Visits()
    visits.connect("a", kept=True)
    assert visits.score(*(delivery(VALUE, mid) for mid in range(1, 900))) == 899
    visits.connect("b", kept=False)
    assert visits.score(delivery(VALUE, 1, again=True)) == 1
    for start in range(1, 10_001, 1000):
        visits.score(*(delivery(VALUE, mid) for mid in range(start, start + 1000)))
    del visits.committed[:-8]
    visits.start()
    visits.connect("a", kept=True)
    assert visits.score(*(delivery(VALUE, mid, again=True) for mid in range(1, 900))) == 0
    assert visits.score(delivery(VALUE, 5000, again=True)) == 1
    visits.connect("b", kept=True)
    assert visits.score(delivery(VALUE, 10_000, again=True)) == 0


def test_nodes_of_a_cluster_have_one_session() -> None:
    """What one node has sent, another sends again; when the cluster has lost the session, all of them have."""
    visits = Visits()
    visits.connect("a", kept=False)
    assert visits.score(delivery(VALUE, 1)) == 1
    visits.connect("b", kept=True)
    assert visits.score(delivery(VALUE, 1, again=True), delivery(VALUE, 2)) == 1
    visits.connect("b", kept=False)
    assert visits.score(delivery(VALUE, 2, again=True)) == 1
    visits.connect("a", kept=True)
    assert visits.score(delivery(VALUE, 2, again=True)) == 0


def test_a_damaged_record_of_sessions_is_told() -> None:
    """It is no reason not to start."""
    record = Sessions().record()
    assert Sessions(record).record() == record
    for damaged in (record[:-1], record.replace(b"{", b"[")):
        with pytest.raises(ValueError, match="checksum"):
            Sessions(damaged)
    with pytest.raises(ValueError, match="Expected"):
        Sessions(seal(b"[]"))
