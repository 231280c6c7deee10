"""`edgetool inspect`: arguments and report."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import UsageError
from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, HtmlOption, JsonOption, app, print_json
from edgetool._cli.length_options import TimeoutOption
from edgetool.deadline import LOOK_S

if TYPE_CHECKING:
    from edgetool.commands.inspect import InspectReport

__all__ = ["inspect"]


@app.command(epilog="Example: edgetool inspect pump-1.0.0.edge")
def inspect(
    model: Annotated[Path, typer.Argument(help="The ONNX model, or a bundle.", show_default=False)],
    html: HtmlOption = None,
    netron: Annotated[bool, typer.Option("--netron", help="Open it in Netron, when that is installed.")] = False,
    custom_ops: CustomOpsOption = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.pub", help="Public keys, one of which must have signed the bundle.", show_default=False
        ),
    ] = None,
    timeout: TimeoutOption = LOOK_S,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a model, what each precision would bring, and what is known to go wrong with it.

    Of a bundle (.edge), all that it says of itself comes first.
    """
    from edgetool.commands.inspect import inspect as work
    from edgetool.progress import working
    from edgetool.reports.asked import check_page

    check_page(html, with_graph=True)
    if netron and util.find_spec("netron") is None:
        raise UsageError("--netron: Netron is not installed; run: pip install netron")
    with working(f"inspecting {model.name}", timeout):
        report = work(model, custom_ops=custom_ops or (), keys=key or (), timeout_s=timeout)
        if html is not None:
            from edgetool.reports.looked_at import write_inspect_page

            write_inspect_page(html, report)
    print_json(report.describe()) if as_json else _show_inspected(report)
    if netron:
        # Typed nowhere, and installed only where a person wants it.
        from importlib import import_module

        import_module("netron").start(str(model))


def _show_inspected(report: InspectReport) -> None:
    if report.bundle is not None:
        from edgetool.detector.card import card_of

        for what, text in card_of(report.bundle):
            say(f"  {what:<10} {text}")
    say(f"{report.model}: {report.size_bytes} bytes, {report.parameters} parameters in {report.weights}")
    opsets = ", ".join(f"{domain} {version}" for domain, version in report.opsets.items())
    say(f"  made by    {report.producer or 'unknown'}; IR {report.ir_version}; operator sets {opsets}")
    for port in report.inputs:
        say(f"  input      {port.name}: {port.kind}")
    for port in report.outputs:
        say(f"  output     {port.name}: {port.kind}")
    say(f"  operators  {', '.join(f'{name} {count}' for name, count in report.operators.items())}")
    say(f"  metadata   {report.metadata_bytes} bytes that no runtime reads")
    say(f"  would be   {', '.join(f'{name} {size}' for name, size in report.would_be.items())} bytes")
    for node in report.nodes[:5]:
        say(f"  heavy      {node.node} ({node.operator}): {node.parameters} values, {node.size_bytes} bytes")
    for place in report.placements:
        left = f", leaves to the CPU's: {', '.join(place.left)}" if place.left else ""
        say(f"  provider   {place.provider}: {place.problem or f'{place.taken} nodes{left}'}")
    for reach in report.runtimes:
        say(f"  runtime    {reach.in_words()}")
    for trap in report.traps:
        say(f"  trap       {trap.where}: {trap.problem}; {trap.fix}")
