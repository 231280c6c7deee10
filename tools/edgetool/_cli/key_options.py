"""Options of commands that sign, and how a passphrase is asked for."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.errors import UsageError
from edge_agent.terminal import say

__all__ = ["KeyOption", "PassphraseFileOption", "PublicKeysOption", "new_passphrase", "passphrase_of"]

KeyOption = Annotated[
    Path,
    typer.Option("--key", metavar="FILE", help="The private key: of keygen, or openssl genpkey.", show_default=False),
]
PublicKeysOption = Annotated[
    list[Path],
    typer.Option("--key", metavar="FILE.pub", help="A public key. May be given again.", show_default=False),
]
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="Its first line is the key's passphrase. Default: it is asked for, where the key has one.",
        show_default=False,
    ),
]


def passphrase_of(key: Path, file: Path | None) -> str | None:
    """The passphrase of a private key's file; None where it has none. A key that lies open is warned of.

    Raises:
        UsageError: a file cannot be read, or there is nobody to ask.
    """
    from edgetool.signing import is_encrypted, others_may_read, read_passphrase

    if others_may_read(key):
        say(f"edgetool: warning: {key}: others on this machine may read it, and sign with it; chmod 600", to=sys.stderr)
    if file is not None:
        return read_passphrase(file)
    return _ask(f"passphrase of {key}: ") if is_encrypted(key) else None


def new_passphrase() -> str:
    """A passphrase that somebody types twice.

    Raises:
        UsageError: these are two, or there is nobody to ask.
    """
    first = _ask("passphrase: ")
    if first != _ask("once more: "):
        raise UsageError("the two passphrases differ")
    return first


def _ask(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(f"{prompt}there is no terminal to ask on; give a file: --passphrase-file")
    return getpass.getpass(prompt)
