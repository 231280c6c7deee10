"""`edgetool sign`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json
from edgetool._cli.key_options import KeyOption, PassphraseFileOption, passphrase_of

__all__ = ["sign"]


@app.command(epilog="Example: edgetool sign pump-1.0.0.edge --key plant.key")
def sign(
    bundle: Annotated[Path, typer.Argument(help="The bundle, which is signed in its place.", show_default=False)],
    key: KeyOption,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a bundle, so that devices with your public key open it."""
    from edgetool.commands.sign import sign as work

    report = work(bundle, key=key, passphrase=passphrase_of(key, passphrase_file))
    if as_json:
        print_json(report.describe())
        return
    before = " (replaces the signature that was there)" if report.replaced else ""
    say(f"{report.bundle}: {report.name} {report.version} signed by {report.key_id}{before}")
    for warning in report.warnings:
        say(f"  WARNING    {warning}")
