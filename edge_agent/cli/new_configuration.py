"""Whether a running agent could start with the configuration as it is now, so that it may end for it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from edge_agent.agent.state_dir import check_state_dir, is_in_use
from edge_agent.bundle import Bundle
from edge_agent.child_process import Look
from edge_agent.cli.options import check_connections, load_running, open_bundles
from edge_agent.config.decoders import make_decoder
from edge_agent.config.settings import Config
from edge_agent.engine.choice.choose import provider_memory
from edge_agent.engine.choice.starting import choose_to_start
from edge_agent.errors import ConfigError

__all__ = ["check_new_configuration"]


def check_new_configuration(
    options: argparse.Namespace, running: Config, bundles: Sequence[Bundle], look: Look
) -> None:
    """Read the configuration and its bundles, and prove a provider on each bundle that is new.

    What `edge-agent check` looks for, but for times: providers that are right are not timed.

    Args:
        options: of the command that the new start will be.
        running: what the agent runs with.
        bundles: of its streams.
        look: called while a provider is proven.

    Raises:
        EdgeError: the new start would end with it.
        Stopped: by `look`.
    """
    config = load_running(options)
    # A file or a pipe has no session that keeps what comes meanwhile, and knows nothing of where we were in it.
    for section in (*running.streams, *config.streams):
        if section.input is not None:
            place = f"[[stream]] {section.name}: input = {section.input!r}"
            raise ConfigError(f"{options.config}: {place}: a stream with an input has no reload; restart the agent")
    check_connections(options.config, config)
    state_dir = Path(config.agent.state_dir)
    check_state_dir(state_dir, allow_unsafe=config.agent.allow_unsafe_state_dir)
    if state_dir.resolve() != Path(running.agent.state_dir).resolve() and is_in_use(state_dir):
        raise ConfigError(f"{options.config}: [agent] state_dir = {str(state_dir)!r}: another edge-agent is using it")
    engines = [running.engine_of(section) for section in running.streams]
    known = [(bundle.manifest, engine) for bundle, engine in zip(bundles, engines, strict=True)]
    for section, bundle in zip(config.streams, open_bundles(config), strict=True):
        look()
        make_decoder(section, bundle.manifest)
        wanted = config.engine_of(section)
        if (bundle.manifest, wanted) not in known:
            choose_to_start(bundle, wanted, provider_memory(bundle, wanted, state_dir), mix=None, look=look)
