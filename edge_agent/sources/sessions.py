"""Which session of a broker a packet identifier is of: each session numbers its messages by itself.

A broker that kept our session sends again what it has no acknowledgement of, under the identifiers of that session.
With several addresses there may be several sessions, each with its own unacknowledged messages, for as long as we are
elsewhere; or the addresses share one session, which the agent cannot see. So each session has a number:

    the broker has a new session          a new number, for this address alone
    it kept one, and has a number         that number
    it kept one that we know nothing of   the number of the address before: they share it
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable

import msgspec

from edge_agent.files.checksum import seal, unseal

__all__ = ["KEY_BYTES", "Sessions", "contents_in", "keys_in", "pack_key"]

_KEY = struct.Struct("<QHH")
"""A message that was scored: fingerprint of its content, packet identifier, number of the session. In a journal of an
agent from before 2026-11-30 keys were shorter; what is read of those is the key of no message."""
KEY_BYTES = _KEY.size
pack_key = _KEY.pack
"""Makes the key of one message: fingerprint, packet identifier, number of the session."""
_KEPT = 1024
"""Keys of each session that are kept: as many messages as a broker may have unacknowledged (`mqtt.opening`)."""
_NUMBERS = 1 << 16


class _Note(msgspec.Struct):
    """What the journal keeps."""

    number: int = 0
    """Of the present session."""
    newest: int = 0
    address: str = ""
    """Of the last connection."""
    numbers: dict[str, int] = {}
    """By address."""
    kept: bytes = b""


class Sessions:
    """Knows the session of the present connection, and what was scored of the others.

    Args:
        record: what `record` gave last, in this run or an earlier one; None if it gave nothing yet.

    Raises:
        ValueError: the record is damaged.
    """

    def __init__(self, record: bytes | None = None) -> None:
        try:
            self._note = _Note() if record is None else msgspec.json.decode(unseal(record), type=_Note)
        except msgspec.MsgspecError as exc:
            raise ValueError(str(exc)) from exc
        self.has_news = False
        """Whether the journal has not been given the present `record` yet; whoever gives it clears this."""

    @property
    def number(self) -> int:
        """Of the present session."""
        return self._note.number

    @property
    def kept(self) -> bytes:
        """Keys of what was scored last of each session before this connection, where there are several."""
        return self._note.kept

    def connected(self, address: str, session_present: bool, scored: Callable[[], Iterable[bytes]]) -> bool:
        """Note a connection.

        Args:
            address: of the broker.
            session_present: whether the broker had kept our session.
            scored: gives the keys of what was scored last, of any session, oldest first.

        Returns:
            Whether we had a session there, in this run or an earlier one, so that the broker should have kept it.
        """
        note = self._note
        is_known = address in note.numbers
        numbers = dict(note.numbers)
        if session_present:
            number = numbers.get(address, numbers.get(note.address, note.number))
        else:
            # Addresses that shared the session have lost it together.
            gone = numbers.get(address)
            numbers = {other: known for other, known in numbers.items() if known != gone}
            number = note.newest % (_NUMBERS - 1) + 1
        numbers[address] = number
        newest = note.newest if session_present else number
        if (number, newest, address, numbers) == (note.number, note.newest, note.address, note.numbers):
            return is_known
        every = {*numbers.values()}
        kept = _last_of(every, [note.kept, *scored()]) if len(every) > 1 else b""
        self._note = _Note(number=number, newest=newest, address=address, numbers=numbers, kept=kept)
        self.has_news = True
        return is_known

    def left(self) -> None:
        """Note that the present session was ended in good order, so that nobody misses it."""
        note = self._note
        others = {address: number for address, number in note.numbers.items() if number != note.number}
        self._note = msgspec.structs.replace(note, numbers=others)

    def record(self) -> bytes:
        """For the journal."""
        return seal(msgspec.json.encode(self._note))


def keys_in(blob: bytes) -> list[bytes]:
    """The keys of one batch. A damaged journal may have a part of a key at the end, which is left out."""
    return [blob[at : at + KEY_BYTES] for at in range(0, len(blob) - KEY_BYTES + 1, KEY_BYTES)]


def contents_in(blob: bytes) -> list[int]:
    """The fingerprints in the keys of one batch."""
    return [content for content, _, _ in _KEY.iter_unpack(blob[: len(blob) // KEY_BYTES * KEY_BYTES])]


def _last_of(numbers: set[int], blobs: Iterable[bytes]) -> bytes:
    """The last keys of each of these sessions."""
    found: dict[int, list[bytes]] = {number: [] for number in numbers}
    for key in itertools.chain.from_iterable(map(keys_in, blobs)):
        found.get(_KEY.unpack(key)[2], []).append(key)
    return b"".join([key for keys in found.values() for key in dict.fromkeys(keys[-_KEPT:])])
