"""`[trust]`: whose signature a bundle must have, and who may send updates."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_agent.setting_types import IS_PATH, FilePath
from edge_agent.trust import Keys, load_keys, public_key_problem

__all__ = ["TrustSettings", "trust_problems", "trust_remarks", "trusted_keys"]

KeyFiles = Annotated[
    tuple[FilePath, ...],
    Meta(min_length=1, max_length=50, description="a list of 1 to 50 files with public keys", extra={IS_PATH: True}),
]


class TrustSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[trust]`. Without it, whoever can replace a bundle's file decides, and nothing comes over the broker."""

    keys: KeyFiles = ()
    """Public keys, PEM; a bundle is opened that one of them has signed. A key is revoked by taking it off the list."""


def trust_problems(settings: TrustSettings) -> list[str]:
    """What is wrong with the files of the keys, a line each."""
    found = ((path, public_key_problem(Path(path))) for path in settings.keys)
    return [f"keys = {path!r}: {problem}" for path, problem in found if problem is not None]


def trust_remarks(settings: TrustSettings) -> list[str]:
    """Keys that others may put one of their own in the place of."""
    remarks: list[str] = []
    for path in settings.keys:
        with suppress(OSError):  # an error of its own, where it is read
            if Path(path).stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                remarks.append(f"keys = {path!r}: others than its owner may write to it; chmod go-w")
    return remarks


def trusted_keys(settings: TrustSettings) -> Keys | None:
    """The keys; None where no signature is asked for.

    Raises:
        ConfigError: a file gives no key.
        MissingExtraError: PyNaCl is not installed.
    """
    return load_keys([Path(path) for path in settings.keys]) if settings.keys else None
