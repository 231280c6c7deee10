"""`edgetool optimize`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, JsonOption, ModelArgument, app, print_json
from edgetool._cli.data_options import DataOption, takes_data
from edgetool._cli.length_options import TimeoutOption
from edgetool.choices import Level
from edgetool.deadline import DEFAULT_S

__all__ = ["optimize"]


@app.command()
@takes_data
def optimize(
    model: ModelArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: MODEL with .optimized.onnx.", show_default=False)
    ] = None,
    level: Annotated[
        Level, typer.Option(help="Beyond basic, the result is for ONNX Runtime's own providers only.")
    ] = Level.BASIC,
    data: DataOption = None,
    custom_ops: CustomOpsOption = None,
    timeout: TimeoutOption = DEFAULT_S,
    as_json: JsonOption = False,
) -> None:
    """Let the runtime optimise a graph now and not on the device at each start, and verify the result."""
    from edgetool.commands.optimize import optimize as work
    from edgetool.progress import working

    with working(f"optimizing {model.name}", timeout):
        report = work(model, output, level=level, data=data, custom_ops=custom_ops or (), timeout_s=timeout)
    if as_json:
        print_json(report.describe(), data)
        return
    before, after = report.before, report.after
    say(f"{report.output}: optimized at level {report.level.value}")
    say(f"  nodes      {before.nodes} -> {after.nodes}")
    say(f"  size       {before.size_bytes} -> {after.size_bytes} bytes")
    say(f"  load       {before.load_s * 1e3:.1f} -> {after.load_s * 1e3:.1f} ms")
    say(f"  latency    {before.latency_s * 1e6:.1f} -> {after.latency_s * 1e6:.1f} us")
    for drift in report.outputs:
        say(f"  drift      {drift.output}: {drift.drift:.2e}")
    say(f"  checked on {report.data}")
