"""`edgetool doctor`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, JsonOption, app, print_json
from edgetool._cli.data_options import DataOption, takes_data
from edgetool._cli.length_options import TimeoutOption
from edgetool.deadline import DEFAULT_S

__all__ = ["doctor"]


@app.command()
@takes_data
def doctor(
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="An ONNX model to look at too.", show_default=False)
    ] = None,
    data: DataOption = None,
    custom_ops: CustomOpsOption = None,
    timeout: TimeoutOption = DEFAULT_S,
    as_json: JsonOption = False,
) -> None:
    """Look at this installation, and at what will break where with a model."""
    from edgetool.commands.doctor import doctor as work
    from edgetool.progress import working

    with working("looking", timeout):
        report = work(model, data=data, custom_ops=custom_ops or (), timeout_s=timeout)
    if as_json:
        print_json(report.describe(), data)
        return
    say(", ".join(f"{name} {version}" for name, version in report.versions.items()))
    say(", ".join(f"{name}: {value}" for name, value in report.machine.items()))
    for finding in report.findings:
        say(f"{'ok  ' if finding.good else 'look'}  {finding.subject}: {finding.text}")
        if finding.fix:
            say(f"        {finding.fix}")
