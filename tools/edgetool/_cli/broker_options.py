"""The options that say where a broker is and how to get in, of the commands that connect to one."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.mqtt.settings import MqttProtocol, Transport
from edge_agent.terminal import say

if TYPE_CHECKING:
    from edgetool.broker import BrokerAddress as Broker
else:
    Broker = Any
    """What `takes_broker` makes; importing its module takes long."""

__all__ = ["Broker", "takes_broker"]

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "host": (Annotated[str, typer.Option(help="The MQTT broker.")], "127.0.0.1"),
    "port": (Annotated[int, typer.Option(min=1, max=65535)], 1883),
    "username": (Annotated[str | None, typer.Option("--username", help="User name at the broker.")], None),
    "password_file": (Annotated[Path | None, typer.Option("--password-file", help="File with the password.")], None),
    "tls": (
        Annotated[bool, typer.Option("--tls", help="Use TLS; the system's authorities count, or --ca-file's.")],
        False,
    ),
    "ca_file": (
        Annotated[Path | None, typer.Option("--ca-file", help="The broker's certificate authority: use TLS.")],
        None,
    ),
    "cert_file": (Annotated[Path | None, typer.Option("--cert-file", help="Our certificate, for mutual TLS.")], None),
    "key_file": (Annotated[Path | None, typer.Option("--key-file", help="The key of --cert-file.")], None),
    "transport": (Annotated[Transport, typer.Option("--transport", help="What carries MQTT.")], Transport.TCP),
    "path": (Annotated[str, typer.Option("--path", help="Path in the address of a websocket.")], "/mqtt"),
    "protocol": (
        Annotated[MqttProtocol, typer.Option("--protocol", help="Version of MQTT; auto: 5, or else 3.1.1.")],
        MqttProtocol.AUTO,
    ),
}
"""By the field of `BrokerAddress`, its option and the option's default."""
_FIRST = 2
"""Host and port stand where the broker does, all others behind the command's own options."""
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def takes_broker(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of a broker, which is given to it as a `BrokerAddress`.

    A password that would leave this machine unencrypted is warned of.

    Args:
        command: has a parameter `broker`.
    """
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        from edgetool.broker import BrokerAddress

        broker = BrokerAddress(**{name: given.pop(name) for name in _OPTIONS})
        if broker.shows_password:
            warning = f"the password goes to {broker.host} unencrypted; use --tls or --ca-file"
            say(f"edgetool: warning: {warning}", to=sys.stderr)
        command(**given, broker=broker)

    places = [
        inspect.Parameter(name, _KEYWORD, default=default, annotation=kind)
        for name, (kind, default) in _OPTIONS.items()
    ]
    at = list(own.parameters).index("broker")
    mine = [place.replace(kind=_KEYWORD) for place in own.parameters.values()]
    is_json = [place.name == "as_json" for place in mine]
    last = is_json.index(True) if any(is_json) else len(mine)
    parameters = [*mine[:at], *places[:_FIRST], *mine[at + 1 : last], *places[_FIRST:], *mine[last:]]
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {place.name: place.annotation for place in parameters}
    del run.__wrapped__  # typer would look at the options of that
    return run
