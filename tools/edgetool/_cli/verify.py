"""`edgetool verify`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json
from edgetool._cli.key_options import PublicKeysOption

__all__ = ["verify"]


@app.command(epilog="Example: edgetool verify pump-1.0.0.edge --key plant.pub")
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", show_default=False)],
    key: PublicKeysOption,
    as_json: JsonOption = False,
) -> None:
    """See that a bundle is whole, and signed by one of these keys, as a device would."""
    from edgetool.commands.verify import verify_bundle

    report = verify_bundle(bundle, keys=key)
    if as_json:
        print_json(report.describe())
    else:
        say(f"{report.bundle}: {report.name} {report.version}, whole and signed by {report.key_id} ({report.key})")
