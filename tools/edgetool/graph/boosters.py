"""Tells a booster by the first bytes of its file, since the endings .txt and .json say little."""

from __future__ import annotations

from pathlib import Path

__all__ = ["LIGHTGBM", "XGBOOST", "booster_of"]

LIGHTGBM, XGBOOST = "LightGBM", "XGBoost"
_LOOKED_AT_BYTES = 64
_BEGINS = {
    b"tree\nversion=": LIGHTGBM,
    b'{"learner"': XGBOOST,
    b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner": XGBOOST,
}
"""Text; JSON, which may have white space in it; UBJSON, which XGBoost writes under any ending that it does not know."""


def booster_of(path: Path) -> str | None:
    """Whose booster a file is; None of any other file, and of none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        begin = file.read(_LOOKED_AT_BYTES)
    return next((whose for known, whose in _BEGINS.items() if _begins(begin, known)), None)


def _begins(begin: bytes, known: bytes) -> bool:
    return begin.startswith(known) or (known.startswith(b'{"') and b"".join(begin.split()).startswith(known))
