"""Which batch sizes a stream meets, and what a provider's times mean for it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edge_agent.files import seal, unseal, write_file

__all__ = ["BATCH_SIZES", "DEFAULT_MIX", "BatchMix", "load_mix", "save_mix", "timed_size"]

log = logging.getLogger(__name__)

BATCH_SIZES = (1, 8, 64, 512)
"""Batches that are timed: light load, a broker's in-flight limit, a backlog, the most that one batch holds."""
_ENOUGH_BATCHES = 200
_SAME_SHARE = 0.05
_HALVED_AT = 1_000_000
"""Old habits fade: at this many batches all counts are halved."""


class BatchMix(msgspec.Struct, frozen=True, kw_only=True):
    """How many batches of each kind there were."""

    batches: dict[int, float]
    """Count, or share, by the timed size that is nearest."""
    changed: float = 0.0
    """How many of them had another size than the one before; some providers prepare anew for every change."""

    @property
    def total(self) -> float:
        """All batches."""
        return sum(self.batches.values())

    @property
    def is_enough(self) -> bool:
        """Whether it says more than the default does."""
        return self.total >= _ENOUGH_BATCHES

    def cost(self, us: Mapping[int, float], change_us: float) -> float:
        """Mean time of a batch of this mix, microseconds.

        Args:
            us: time of one inference by timed size.
            change_us: what a change of size adds.
        """
        spent = sum(count * us[size] for size, count in self.batches.items() if count)
        return (spent + self.changed * change_us) / self.total

    def plus(self, other: BatchMix) -> BatchMix:
        """Both together, halved when it has become much."""
        batches = {
            size: self.batches.get(size, 0.0) + other.batches.get(size, 0.0)
            for size in sorted({*self.batches, *other.batches})
        }
        both = BatchMix(batches=batches, changed=self.changed + other.changed)
        if both.total < _HALVED_AT:
            return both
        return BatchMix(batches={size: count / 2 for size, count in batches.items()}, changed=both.changed / 2)

    def differs(self, other: BatchMix) -> bool:
        """Whether a share of one size, or that of the changes, is another one by more than five in a hundred."""
        shares = [
            (self.batches.get(size, 0.0) / self.total, other.batches.get(size, 0.0) / other.total)
            for size in {*self.batches, *other.batches}
        ]
        shares.append((self.changed / self.total, other.changed / other.total))
        return any(abs(mine - theirs) > _SAME_SHARE for mine, theirs in shares)

    def in_words(self) -> str:
        """Shares of the sizes, such as `90 % 1, 10 % 8`."""
        shares = ((size, 100 * count / self.total) for size, count in sorted(self.batches.items()))
        return ", ".join(f"{share:.0f} % {size}" for size, share in shares if share >= 0.5)


DEFAULT_MIX = BatchMix(batches={1: 80.0, 8: 15.0, 64: 4.0, 512: 1.0}, changed=25.0)
"""Until a stream has shown its own: mostly idle, now and then a backlog."""


def timed_size(windows: int) -> int:
    """The timed size that stands for a batch of this many windows, nearest as a ratio."""
    return min(BATCH_SIZES, key=lambda size: abs(math.log(windows / size)))


def load_mix(file: Path | None) -> BatchMix | None:
    """What earlier runs met; None when there were none."""
    if file is None:
        return None
    try:
        mix = msgspec.json.decode(unseal(file.read_bytes()), type=BatchMix)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        log.warning("batch sizes of earlier runs not readable file=%s error=%s", file, exc)
        return None
    known = BatchMix(
        batches={size: count for size, count in mix.batches.items() if size in BATCH_SIZES and count >= 0},
        changed=max(0.0, mix.changed),
    )
    return known if known.total else None


def save_mix(file: Path | None, mix: BatchMix) -> None:
    """Keep it for the next start; a failure is told and nothing more."""
    if file is None:
        return
    try:
        write_file(file, seal(msgspec.json.encode(mix)))
    except OSError as exc:
        log.warning("batch sizes not kept file=%s error=%s", file, exc)
