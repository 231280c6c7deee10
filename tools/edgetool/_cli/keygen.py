"""`edgetool keygen`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json
from edgetool._cli.key_options import PassphraseFileOption, new_passphrase

__all__ = ["keygen"]


@app.command(epilog="Example: edgetool keygen plant")
def keygen(
    name: Annotated[Path, typer.Argument(help="Of the files: NAME.key and NAME.pub.", show_default=False)],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase, which every signature then needs.")
    ] = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a pair of keys: one to sign bundles and updates with, and one that devices know it by."""
    from edgetool.commands.keygen import keygen as work
    from edgetool.signing import read_passphrase

    secret = None
    if passphrase_file is not None:
        secret = read_passphrase(passphrase_file)
    elif passphrase:
        secret = new_passphrase()
    report = work(name, passphrase=secret)
    if as_json:
        print_json(report.describe())
        return
    kept = "with a passphrase" if report.is_encrypted else "without a passphrase, so keep it where nobody else reads"
    say(f"{report.key}: private, {kept}; whoever has it decides what the devices run")
    say(f'{report.public}: public, {report.key_id}; for the devices: [trust] keys = ["{report.public.name}"]')
