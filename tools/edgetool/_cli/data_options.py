"""The options that say which data files a command reads, and what their columns are."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.terminal import say

if TYPE_CHECKING:
    from edge_agent.data_files import Columns
    from edge_agent.data_files import DataFiles as Data
    from edgetool.backfilling.lake import Lake
else:
    # What typer makes of the command line; `takes_data` makes a DataFiles of it, and importing that takes long.
    Data = Lake = list[str]

__all__ = ["DATA_FORMS", "ChannelsOption", "Data", "DataOption", "Lake", "takes_data", "takes_lake"]

DATA_FORMS = ".csv, .csv.gz, .npz, .parquet; a pattern, or given again: several files"

DataOption = Annotated[
    Data | None,
    typer.Option(
        "--data", metavar="FILE", help=f"Readings to run on ({DATA_FORMS}). Made up when not given.", show_default=False
    ),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(metavar="NAME,…", help="The data's columns to take. Default: all.", show_default=False),
]
_ROLES = ("time", "asset", "label")


def takes_data(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options for columns of other names, whose data are a `DataFiles`, or None.

    Args:
        command: has a parameter `data`, of the type `Data`. The options of all commands are named here once.
    """

    def make(names: list[str], columns: Columns) -> Data | None:
        from edge_agent.data_files import DataFiles

        return DataFiles.named(names, columns) if names else None

    return _with_columns(command, make)


def takes_lake(command: Callable[..., None]) -> Callable[..., None]:
    """The same for a command whose data are those of a fleet, a `Lake`."""

    def make(names: list[str], columns: Columns) -> Lake:
        from edgetool.backfilling.lake import Lake

        return Lake.named(names, columns)

    return _with_columns(command, make)


def _with_columns(command: Callable[..., None], make: Callable[[list[str], Columns], Any]) -> Callable[..., None]:
    own = inspect.signature(command, eval_str=True)
    places = [inspect.Parameter(f"{role}_column", _KEYWORD, default=None, annotation=_named(role)) for role in _ROLES]
    if "channels" not in own.parameters:
        places.append(inspect.Parameter("channels", _KEYWORD, default=None, annotation=ChannelsOption))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        from edge_agent.data_files import Columns

        names = given.pop("data")
        options = {place.name: given.pop(place.name) for place in places}
        channels = tuple(name.strip() for name in (options.get("channels") or "").split(",") if name.strip())
        roles = {role: options[f"{role}_column"] for role in _ROLES}
        data = make(names, Columns(**roles, channels=channels))
        command(**given, data=data)
        for name in getattr(data, "ignored", ()):
            say(f"WARNING  column {name!r} holds text and is none of the named channels: it is ignored", to=sys.stderr)

    after = list(own.parameters).index("data") + 1
    parameters = [place.replace(kind=_KEYWORD) for place in own.parameters.values()]
    run.__signature__ = own.replace(parameters=[*parameters[:after], *places, *parameters[after:]])  # type: ignore[attr-defined]
    run.__annotations__ = {place.name: place.annotation for place in [*parameters, *places]}
    del run.__wrapped__  # typer would look at the options of that
    return run


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _named(role: str) -> Any:
    return Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"The data's column of that meaning. Default: {role}.", show_default=False),
    ]
