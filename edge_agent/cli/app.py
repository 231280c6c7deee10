"""The `edge-agent` command. The one place on the device that turns an EdgeError into an exit code."""

from __future__ import annotations

import argparse
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn

from edge_agent.cli.log import LogFormat, configure_logging, log_error
from edge_agent.errors import EdgeError
from edge_agent.messages.text import shown
from edge_agent.terminal import begin, complain, drop_output

__all__ = ["COMMANDS", "main"]

# A module of its name has the options of each command and what it does. Only that of the command in hand is imported.
COMMANDS = {
    "run": "score readings until stopped (what the service runs)",
    "check": "open the bundles, try the providers and score one window; starts nothing",
    "providers": "show what each provider of this device did with the bundles, and the choice",
    "show-config": "print the effective settings, without secrets",
    "score": "score files of readings with the code that scores a stream",
    "status": "show how the running agent is: broker, streams, queue, open alerts, problems",
    "recommission": "set the limits of a stream's assets anew, in the running agent",
    "mute": "tell nothing of an asset or a stream until a time, for a planned stop, in the running agent",
    "retire": "end the agent's sessions at its brokers and clear what it retained there, for good",
    "install": "install the service on this device, or a newer version of it, and start it (as root)",
    "rollback": "let the version of the service run again that ran before (as root)",
    "uninstall": "take the service off this device (as root)",
    "version": "print the versions of the agent and of what it runs on",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, or that of the EdgeError that ended it. A bug leaves with its traceback and exit code 1.
    """
    begin()
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments[:1]).parse_args(arguments)
    is_logged = configure_logging(options.log_level, LogFormat(getattr(options, "log_format", LogFormat.TEXT)))
    try:
        options.command(options)
    except EdgeError as exc:
        if is_logged:
            log_error(exc)
        else:
            complain("edge-agent", exc)
        return exc.exit_code
    except BrokenPipeError:
        drop_output()
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


class _Parser(argparse.ArgumentParser):
    """Quotes wrong arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        super().error(shown(message))


class _CommandParser(_Parser):
    """Of one command: takes files and names in front of options, behind them, and in both places."""

    _is_parsing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As of `ArgumentParser`, which takes them from one place; up to Python 3.11 its other way comes here again."""
        if self._is_parsing:
            return super().parse_known_args(args, namespace)
        self._is_parsing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_parsing = False


def _parser(named: list[str]) -> argparse.ArgumentParser:
    """The parser of all commands, with the options of those that are named."""
    parser = _Parser(
        prog="edge-agent",
        description="Scores sensor readings on this device and publishes anomalies over MQTT.",
        epilog="Exit codes: 0 done, 2 wrong usage, 65 bad bundle, 69 a provider, package or broker is missing, "
        "70 the runtime failed, 78 the configuration is wrong.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name not in named:
            continue
        module = import_module(f"edge_agent.cli.{name.replace('-', '_')}")
        command.set_defaults(command=module.run)
        command.add_argument(
            "--log-level", default="info" if name == "run" else "warning", choices=["debug", "info", "warning", "error"]
        )
        module.add_options(command)
    return parser
