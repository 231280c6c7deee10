"""The batch sizes that a stream meets, and the mean time that a provider needs for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edge_agent.files.checksum import seal, unseal
from edge_agent.files.plain import read_file, write_file
from edge_agent.messages.text import decode

__all__ = ["BATCH_SIZES", "DEFAULT_MIX", "BatchMix", "load_mix", "save_mix", "timed_size"]

log = logging.getLogger(__name__)

BATCH_SIZES = (1, 8, 64, 512)
"""Batch sizes that are timed, in windows: light load, a broker's in-flight limit, a backlog, the largest batch."""
_ENOUGH_BATCHES = 200
"""Fewest batches from which a mix is used in place of the default."""
_SAME_SHARE = 0.05
"""Largest difference of two shares that count as the same."""
_HALVED_AT = 1_000_000
"""At this many batches all counts are halved, so that newer batches weigh more."""


class BatchMix(msgspec.Struct, frozen=True, kw_only=True):
    """The number of batches by size."""

    batches: dict[int, float]
    """Number of batches, or share, by the nearest of `BATCH_SIZES`."""
    changed: float = 0.0
    """Number of batches whose size differs from the batch before; some providers prepare anew for every change."""

    @property
    def total(self) -> float:
        """The number of all batches."""
        return sum(self.batches.values())

    @property
    def is_enough(self) -> bool:
        """True if there are enough batches to use this mix in place of the default."""
        return self.total >= _ENOUGH_BATCHES

    def cost(self, us: Mapping[int, float], change_us: float) -> float:
        """Mean time of a batch of this mix, microseconds.

        Args:
            us: time of one inference by timed size, microseconds; has all sizes of this mix.
            change_us: time that a change of size adds, microseconds.
        """
        spent = sum(count * us[size] for size, count in self.batches.items() if count)
        return (spent + self.changed * change_us) / self.total

    def plus(self, other: BatchMix) -> BatchMix:
        """The sum of both mixes; halved from 1,000,000 batches on, so that newer batches weigh more."""
        batches = {
            size: self.batches.get(size, 0.0) + other.batches.get(size, 0.0)
            for size in sorted({*self.batches, *other.batches})
        }
        both = BatchMix(batches=batches, changed=self.changed + other.changed)
        if both.total < _HALVED_AT:
            return both
        return BatchMix(batches={size: count / 2 for size, count in batches.items()}, changed=both.changed / 2)

    def differs(self, other: BatchMix) -> bool:
        """True if the share of a size, or of the changes, differs by more than 5 percentage points."""
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
"""The mix until a stream has enough batches of its own: mostly light load, sometimes a backlog."""


def timed_size(windows: int) -> int:
    """The size in `BATCH_SIZES` that is nearest, as a ratio, to this number of windows, at least 1."""
    return min(BATCH_SIZES, key=lambda size: abs(math.log(windows / size)))


def load_mix(file: Path | None) -> BatchMix | None:
    """Read the batch sizes that earlier runs met; None if there are none. A file that cannot be read is logged."""
    if file is None:
        return None
    try:
        mix = decode(unseal(read_file(file)), BatchMix)
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
    """Write a mix for the next start; a failure is only logged. Without a file, nothing is written."""
    if file is None:
        return
    try:
        # Written while readings wait; after a power cut, batch sizes are counted anew.
        write_file(file, seal(msgspec.json.encode(mix)), durable=False)
    except OSError as exc:
        log.warning("batch sizes not kept file=%s error=%s", file, exc)
