"""`edge-agent run`: what the service runs."""

from __future__ import annotations

import argparse
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.cli.log import LogFormat
from edge_agent.cli.options import add_config, load, load_running, misfits, open_bundles, remarks
from edge_agent.errors import BundleError, ConfigError, EdgeError, TrustError, UsageError

if TYPE_CHECKING:
    from edge_agent.agent.loop import Agent
    from edge_agent.service.notifier import Notifier
    from edge_agent.service.patience import Patience
    from edge_agent.service.signals import Signals
    from edge_agent.update.beginning import Beginning

__all__ = ["add_options", "run"]


log = logging.getLogger(__name__)

_NEEDS_A_PERSON = {kind.exit_code for kind in (BundleError, ConfigError, TrustError, UsageError)}
"""Exit codes that the unit does not start again after."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config(command)
    command.add_argument(
        "--log-format",
        choices=[str(form) for form in LogFormat],
        default=LogFormat.TEXT,
        help="json: an object on each line, with the facts of the line by name; default: text, or the systemd journal",
    )


def run(options: argparse.Namespace) -> None:
    """Score readings until stopped."""
    # The runtime, paho and SQLite are loaded only where something runs, so that --help is quick.
    from edge_agent.service.anew import start_anew
    from edge_agent.service.notifier import Notifier
    from edge_agent.service.patience import Patience
    from edge_agent.service.signals import Signals

    signals, notifier, patience = Signals(), Notifier(), Patience()
    with signals.caught():
        try:
            is_reload = _run_agent(options, notifier, signals)
        except EdgeError as exc:
            if exc.exit_code in _NEEDS_A_PERSON or not notifier.is_managed:
                raise
            _wait_to_end(exc, exc.lines[0], patience, notifier, signals)
            raise
        except Exception as exc:
            if not notifier.is_managed:
                raise
            # Whoever looks into the log during the wait has to find it.
            log.exception("a bug ends the agent")
            _wait_to_end(exc, f"a bug, {type(exc).__name__}; see the log", patience, notifier, signals)
            raise SystemExit(1) from None
        if is_reload:
            start_anew(signals)


def _wait_to_end(exc: Exception, problem: str, patience: Patience, notifier: Notifier, signals: Signals) -> None:
    """Let a service end later each time that it cannot work.

    Raises:
        SystemExit: a stop was asked for meanwhile, which is no failure.
    """
    from edge_agent.service.patience import wait_out

    pause_s = patience.pause_s()
    if not pause_s:
        return
    code = exc.exit_code if isinstance(exc, EdgeError) else 1
    wait_out(pause_s, f"{problem} (exit code {code})", notifier=notifier, signals=signals)
    if signals.received is not None:
        raise SystemExit(0) from None


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """What a start makes lives as long as the process: to look for rubbish in it, 88 times, takes a twentieth of it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _run_agent(options: argparse.Namespace, notifier: Notifier, signals: Signals) -> bool:
    """Run the agent to its end; gives whether it has to start anew."""
    with _nothing_collected():
        from edge_agent.agent.loop import Agent
        from edge_agent.agent.state_dir import check_state_dir, locked_state_dir
        from edge_agent.engine.crash import crash_watch
        from edge_agent.update.beginning import Beginning, problem_of

        config = load(options)
        state_dir = Path(config.agent.state_dir)
        check_state_dir(state_dir, allow_unsafe=config.agent.allow_unsafe_state_dir)
    with locked_state_dir(state_dir), crash_watch(state_dir):
        beginning = Beginning(config, lambda: open_bundles(load_running(options)))
        try:
            with _nothing_collected():
                agent = _make_agent(Agent, options, beginning, notifier, signals)
            starts_anew = agent.run()
        except Exception as exc:
            # A bundle on probation has to go for it, and then another start helps.
            if not beginning.failed(problem_of(exc)):
                raise
            log.exception("the agent ended over a new bundle, starting anew with the one before")
            return True
        # Also one that was stopped before it had started: a bundle on probation is marked by then.
        beginning.ended_in_order()
        return starts_anew


def _make_agent(
    kind: type[Agent], options: argparse.Namespace, beginning: Beginning, notifier: Notifier, signals: Signals
) -> Agent:
    from edge_agent.agent.stream import LoadedStream
    from edge_agent.cli.new_configuration import check_new_configuration

    notifier.status("opening the bundles")
    config = beginning.take_up()
    bundles = open_bundles(config)
    for misfit in misfits(config, bundles):
        # Perhaps only since the bundle was replaced: no reason not to start.
        log.warning("setting does not fit the bundle: %s", misfit)
    for remark in remarks(config, bundles):
        log.warning("setting: %s", remark)
    streams = [LoadedStream(*pair) for pair in zip(config.streams, bundles, strict=True)]
    return kind(
        config,
        streams,
        notifier=notifier,
        signals=signals,
        check=lambda look: check_new_configuration(options, config, bundles, look),
        begun=beginning.begun(config, bundles),
    )
