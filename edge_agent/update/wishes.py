"""What an operator may wish of an agent over the broker: read once its signature is good, and judged then.

A wish names its agent and stream, grows in sequence and expires, so that one that was recorded says nothing later, and
nothing to anybody else. The protocol is in docs/updates.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edge_agent.messages.text import decode
from edge_agent.messages.values import read_iso_time
from edge_agent.versions import Precedence, precedence

__all__ = [
    "CHUNK_BYTES",
    "KINDS",
    "BundlePart",
    "Kind",
    "LimitsPart",
    "Minutes",
    "Multiple",
    "ProbationPart",
    "Readings",
    "ShadowPart",
    "Url",
    "Wish",
    "is_beyond_clocks",
    "problem_with",
    "problem_with_version",
    "read_wish_text",
    "waits_for_clock",
]

CHUNK_BYTES = 102_400
"""Of a bundle in one message: below the smallest limit of a broker that is known, 128 KiB."""
_MOST_CHUNK_BYTES = 131_072
_MOST_BUNDLE_BYTES = 1 << 40
"""So that a size can be computed with: in JSON an integer may have any length."""
_CLOCK_SLACK_S = 300.0
"""A wish may be so much younger than this device's clock says that it can be."""

_CLOCKS_APART_S = 100 * 366 * 86_400.0
"""The clock of one who numbers wishes by it may be ahead by so much."""

Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
ShortText = Annotated[str, Meta(max_length=200)]
Minutes = Annotated[float, Meta(ge=0, le=43_200)]
Readings = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Multiple = Annotated[float, Meta(gt=0, le=1_000_000)]
Url = Annotated[str, Meta(max_length=2_000, pattern=r"^https?://[\x21-\x7e]+\Z")]


class Kind(StrEnum):
    """What a wish is about; the last level of its topic."""

    BUNDLE = "bundle"
    SETTINGS = "settings"
    RECOMMISSION = "recommission"


KINDS = tuple(Kind)


class BundlePart(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that is wished for."""

    sha256: Hash
    """Of the file."""
    size_bytes: Annotated[int, Meta(ge=1, le=_MOST_BUNDLE_BYTES)]
    """Of the file."""
    chunk_bytes: Annotated[int, Meta(ge=1_000, le=_MOST_CHUNK_BYTES)] = CHUNK_BYTES
    """Of each message but the last."""
    name: ShortText
    version: ShortText
    url: Url | None = None
    """Where the file can be had in place of the broker."""

    @property
    def chunks(self) -> int:
        """Number of messages."""
        return -(-self.size_bytes // self.chunk_bytes)


class ShadowPart(msgspec.Struct, frozen=True, kw_only=True):
    """How long the new model scores beside the old one: until both are reached; with two zeros, not at all."""

    readings: Readings = 1_000
    minutes: Minutes = 10.0


class ProbationPart(msgspec.Struct, frozen=True, kw_only=True):
    """How long the new model can be rolled back: until both are reached."""

    readings: Readings = 1_000
    minutes: Minutes = 30.0


class LimitsPart(msgspec.Struct, frozen=True, kw_only=True):
    """What a new model may do, as multiples of what the old one did."""

    alerts: Multiple = 3.0
    """Alerts for the same readings."""
    latency: Multiple = 3.0
    """Time of a batch."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One wish. Unknown keys are ignored, because a later version may add some."""

    agent: str
    stream: str
    kind: Kind
    sequence: Annotated[int, Meta(ge=0, lt=1 << 62)]
    """Grows with each wish to an agent, stream and kind."""
    issued: str
    expires: str
    """Times, ISO 8601."""
    bundle: BundlePart | None = None
    rollback: bool = False
    """The operator's own act: an older version is meant; without `bundle`, the last one that was good."""
    cancel: bool = False
    """What was wished before is taken back."""
    shadow: ShadowPart = ShadowPart()
    probation: ProbationPart = ProbationPart()
    limits: LimitsPart = LimitsPart()
    settings: dict[str, Any] = {}
    """Keys of a `[[stream]]`, in place of those of the configuration; empty takes all of an earlier wish away."""
    asset: str | None = None
    """Whose limits are to be set anew; None for all."""

    @property
    def issued_s(self) -> float:
        """Epoch seconds."""
        return read_iso_time(self.issued)

    @property
    def expires_s(self) -> float:
        """Epoch seconds."""
        return read_iso_time(self.expires)


def read_wish_text(text: bytes) -> Wish:
    """Read a wish whose signature is good.

    Raises:
        ValueError: it is none.
    """
    wish = decode(text, Wish)
    for name in ("issued", "expires"):
        try:
            read_iso_time(getattr(wish, name))
        except (ValueError, OverflowError) as exc:
            raise ValueError(f"{name} is no time: {getattr(wish, name)[:40]!r}") from exc
    has_target = wish.bundle is not None or wish.rollback or wish.cancel
    if wish.kind is Kind.BUNDLE and not has_target:
        raise ValueError("it wishes for a bundle and names none")
    return wish


def problem_with(wish: Wish, *, agent: str, stream: str, kind: str, last: int | None, now_s: float) -> str | None:
    """Why a wish is not obeyed, for good; None if it may be.

    Args:
        wish: of a good signature.
        agent: this agent.
        stream: that its topic names.
        kind: that its topic names.
        last: the highest sequence that came of this kind; None if none did.
        now_s: this device's clock, epoch seconds.
    """
    if (wish.agent, wish.stream, wish.kind) != (agent, stream, kind):
        what = f"{wish.kind.value} of stream {wish.stream[:64]!r} at agent {wish.agent[:64]!r}"
        return f"it was signed for the {what}, and came on another topic"
    if is_beyond_clocks(wish.sequence, now_s):
        return (
            f"its sequence {wish.sequence} is milliseconds of more than 100 years from now, and would leave no higher"
        )
    if last is not None and wish.sequence < last:
        return f"its sequence {wish.sequence} is below {last}, which came before: it is an old wish"
    if now_s > wish.expires_s:
        return f"it has expired at {wish.expires}"
    return None


def is_beyond_clocks(sequence: int, now_s: float) -> bool:
    """Whether no clock can have made a sequence, in milliseconds since 1970, though it may be 100 years ahead.

    Who obeyed such a wish, or signed one above it, would have few numbers left or none, and only higher ones are obeyed
    ever after. Below, there are always some: as each needs to be one higher only, and time goes on by a thousand in a
    second.

    Args:
        sequence: of a wish; a plain count is never beyond.
        now_s: epoch seconds.
    """
    return sequence > (now_s + _CLOCKS_APART_S) * 1000


def waits_for_clock(wish: Wish, now_s: float) -> bool:
    """True if this device's clock is behind the time at which the wish was made, so that no expiry can be judged.

    What takes an update back need not wait: it leaves the device as it was.
    """
    return not wish.cancel and now_s < wish.issued_s - _CLOCK_SLACK_S


def problem_with_version(wish: Wish, part: BundlePart, *, floors: Sequence[str], max_mb: float) -> str | None:
    """Why a bundle is not fetched; None if it may be.

    Args:
        wish: of the operator.
        part: its bundle.
        floors: versions of the same name that have run here.
        max_mb: largest bundle, in units of 1,000,000 bytes; 0 sets no limit.
    """
    if max_mb and part.size_bytes > max_mb * 1e6:
        return f"it has {part.size_bytes / 1e6:.0f} MB, above [updates] max_mb = {max_mb:g}"
    try:
        version = precedence(part.version)
    except ValueError as exc:
        return f"{exc}: no other can be compared with those that have run here"
    for floor in floors:
        if not wish.rollback and not _is_above(version, floor):
            return f"{part.version} is not above {floor}, which has run here; sign it as a rollback if it is meant"
    return None


def _is_above(version: Precedence, floor: str) -> bool:
    try:
        return version > precedence(floor)
    except ValueError:
        return True  # a bundle from a file may have any version
