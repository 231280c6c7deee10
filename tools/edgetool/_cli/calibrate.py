"""`edgetool calibrate`: arguments and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.terminal import say
from edgetool._cli.app import CustomOpsOption, JsonOption, app, print_json
from edgetool._cli.data_options import DATA_FORMS, Data, takes_data

if TYPE_CHECKING:
    from edgetool.commands.calibrate import CalibrateReport

__all__ = ["calibrate"]


@app.command(
    epilog="Example: edgetool calibrate pump-1.0.0.edge --data normal.csv --alarms-per-day 0.5 -o pump-1.0.1.edge"
)
@takes_data
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", show_default=False)],
    data: Annotated[
        Data,
        typer.Option(
            "--data", metavar="FILE", help=f"Normal readings that the model has not seen, as they came ({DATA_FORMS})."
        ),
    ],
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of normal windows that may reach the limit. Default: the bundle's.", show_default=False
        ),
    ] = None,
    alarms_per_day: Annotated[
        float | None,
        typer.Option(help="Or alerts of an asset that is normal all day; needs a column time.", show_default=False),
    ] = None,
    per_asset: Annotated[
        bool, typer.Option("--per-asset", help="Show the limit that each asset would have by itself.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="NAME-VERSION.edge",
            help="A bundle with the new limits and a version of its own. Default: none is written.",
            show_default=False,
        ),
    ] = None,
    custom_ops: CustomOpsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the limit of a bundle from normal readings, and tell how sure it is.

    Readings resemble their neighbours, so a file says less than its number of rows.
    """
    from edgetool.commands.calibrate import calibrate as work
    from edgetool.progress import working

    with working(f"calibrating on {data}"):
        report = work(
            bundle,
            output,
            data=data,
            false_alarm_rate=false_alarm_rate,
            alarms_per_day=alarms_per_day,
            per_asset=per_asset,
            custom_ops=custom_ops or (),
        )
    print_json(report.describe(), data) if as_json else _show_calibrated(report)


def _show_calibrated(report: CalibrateReport) -> None:
    told, days = report.told, report.days
    lasting = "" if days is None else f", {days * 24:.4g} hours"
    say(f"{report.bundle} on {report.data}: {report.rows} normal windows{lasting}")
    say(f"  effective  they say as much as {told.effective_rows:.0f} independent ones")
    say(
        f"  threshold  alarm {report.threshold.alarm:.4g}, clear {report.threshold.clear:.4g}; so far alarm "
        f"{report.before.alarm:.4g}; by {report.method}"
    )
    asked = f"{told.rate:.3g} of normal windows in alarm"
    if report.alarms_per_day is not None:
        asked = f"{report.alarms_per_day:g} alerts a day, {asked}"
    between = report.alarms_between or (told.low, told.high)
    say(f"  rate       {asked}; nine times in ten from {between[0]:.2g} to {between[1]:.2g} in a next period like this")
    say(f"  here       {_in_words(report.share, report.alerts, days)}")
    say(f"  so far     {_in_words(report.share_before, report.alerts_before, days)}")
    for text in report.warnings():
        say(f"  WARNING    {text}")
    for asset in report.assets:
        own = "no limit of its own" if asset.alarm is None else f"own limit {asset.alarm:.4g}"
        within = "" if asset.interval is None else f", from {asset.interval[0]:.2g} to {asset.interval[1]:.2g}"
        doubt = "" if asset.doubt is None else f": {asset.doubt}"
        say(
            f"  asset      {asset.asset}: {own}{within}; {asset.rows} windows, as {asset.effective_rows:.0f}; "
            f"{asset.share_at_bundle_limit:.2g} reach the limit of all{doubt}"
        )
    if report.assets:
        say("  a bundle holds one limit; limits of each asset's own are made on the device: [stream.commission]")
    if report.output is not None:
        say(f"{report.output}: the same model with these limits")


def _in_words(share: float, alerts: int, days: float | None) -> str:
    often = "" if days is None else f", {alerts / days:.3g} a day"
    return f"{share:.3g} of these windows in alarm, {alerts} alerts{often}"
