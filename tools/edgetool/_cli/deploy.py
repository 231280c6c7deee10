"""`edgetool deploy`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json

__all__ = ["deploy"]


@app.command()
def deploy(
    bundles: Annotated[list[Path], typer.Argument(help="The bundles that the configuration names.")],
    config: Annotated[Path, typer.Option(help="agent.toml; it names each bundle by its file name.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="DIR|USER@HOST",
            help="A folder for the archive, or a device to install on, ssh://USER@HOST:PORT too.",
        ),
    ],
    arch: Annotated[str, typer.Option(help="The device's, as `uname -m` says it: x86_64 or aarch64.")] = "x86_64",
    python: Annotated[str, typer.Option(help="The device's, as `python3 --version` says it.")] = "3.11",
    runtime: Annotated[str, typer.Option(help="cpu, or openvino for an Intel device.")] = "cpu",
    deb: Annotated[bool, typer.Option("--deb", help="Write a Debian package in place of the archive.")] = False,
    name: Annotated[
        str | None, typer.Option(help="Install it as edge-agent@NAME: one of several agents on the device.")
    ] = None,
    replace_config: Annotated[
        bool, typer.Option("--replace-config", help="Let --config take the place of another one that the device has.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make one archive of agent, packages, bundles and configuration, which installs on a device without a network.

    Example: edgetool deploy pump-1.0.0.edge --config agent.toml --to ./out; copy the archive to the device, unpack it
    and run install.sh as root. Or in one step: --to root@press-7.
    """
    from edgetool.commands.deploy import deploy as work
    from edgetool.progress import working

    with working(f"getting the packages for Python {python} on {arch}"):
        report = work(
            bundles,
            config=config,
            to=to,
            machine=arch,
            python=python,
            runtime=runtime,
            deb=deb,
            name=name,
            replace_config=replace_config,
        )
    if as_json:
        print_json(report.describe(), None)
        return
    what = f"edge-agent {report.version}, {runtime}, Python {python}, {arch}"
    size = f"{report.size_bytes / 1e6:.0f} MB, installed {report.installed_bytes / 1e6:.0f} MB"
    say(f"{report.host or report.archive}: {what}; {size}")
    if report.host is None:
        file = report.archive.name
    if report.host is None and deb:
        say(f"  on the device, as root: apt install ./{file}")
    elif report.host is None:
        say(f"  on the device, as root: tar -xzf {file} && sh {file.removesuffix('.tar.gz')}/install.sh")
    for line in report.wanted:
        say(f"  {line}")
