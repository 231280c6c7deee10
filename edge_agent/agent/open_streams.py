"""Opens the streams of an agent: their engines, and what the journal remembers of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from edge_agent.agent.stream import LoadedStream, Stream
from edge_agent.child_process import Look
from edge_agent.config.decoders import make_decoder
from edge_agent.config.settings import Config
from edge_agent.engine.upkeep import open_stream_engine
from edge_agent.journal.journal import Journal
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.ranges import Ranges
from edge_agent.stream.suppression import Suppression

__all__ = ["end_upkeep", "open_streams"]

_UPKEEP_STOP_S = 1.0


def open_streams(
    loaded_streams: Sequence[LoadedStream],
    config: Config,
    journal: Journal,
    stack: ExitStack,
    look: Look,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Stream]:
    """Choose and load the streams' engines, and put back what the journal remembers of them.

    Args:
        loaded_streams: of the configuration, in its order.
        config: checked settings.
        journal: open.
        stack: closes the engines.
        look: called while a provider's process is waited for.
        tell: is given a few words on what is being done, whenever that changes.

    Raises:
        BundleError: nothing on this device can load a model, and its manifest names no newer runtime.
        ProviderError: nothing that may run gives the golden scores.
        MissingExtraError: no runtime is installed.
        EngineError: what is proven does not load.
        Stopped: the agent is to stop.
    """
    streams: list[Stream] = []
    for number, loaded in enumerate(loaded_streams, start=1):
        look()
        name, which = loaded.section.name, f"{number} of {len(loaded_streams)}"
        tell(f"starting {name}, {which}")
        on_try = partial(_tell_try, tell, name, which)
        streams.append(_open_stream(loaded, config, journal, stack=stack, look=look, on_try=on_try))
    return streams


def end_upkeep(streams: Sequence[Stream]) -> None:
    """Let go of whatever is being measured; its processes are gone then."""
    # All are told before any is waited for.
    for stream in streams:
        stream.upkeep.stop()
    for stream in streams:
        stream.upkeep.wait(_UPKEEP_STOP_S)


def _tell_try(tell: Callable[[str], None], stream: str, which: str, provider: str) -> None:
    tell(f"measuring {stream} on {provider}, {which}")


def _open_stream(
    loaded: LoadedStream,
    config: Config,
    journal: Journal,
    *,
    stack: ExitStack,
    look: Look,
    on_try: Callable[[str], None],
) -> Stream:
    manifest = loaded.bundle.manifest
    # This scores golden vectors, so a provider that compiles at its first inference does it before a reading waits.
    engine, upkeep = open_stream_engine(
        loaded.bundle,
        config.engine_of(loaded.section),
        stream=loaded.section.name,
        state_dir=Path(config.agent.state_dir),
        look=look,
        on_try=on_try,
    )
    # At once: an error below is an end that says nothing about the provider.
    stack.callback(engine.close)
    suppression = Suppression(loaded.section.storm, agent=config.agent.id, stream=loaded.section.name)
    records = suppression.restore(journal.records(loaded.section.name))
    decoder = make_decoder(loaded.section, manifest)
    if decoder.metadata is not None:
        records = decoder.metadata.restore(records)
    pipeline = Pipeline(
        agent=config.agent.id,
        stream=loaded.section.name,
        manifest=manifest,
        engine=engine,
        provider=engine.provider.name,
        # Nobody holds what is restored: see `in_restore_order`.
        records=(records.pop() for _ in range(len(records))),
        settings=loaded.section.settings,
    )
    most_s = 2 * config.agent.health_interval_s
    return Stream(
        loaded,
        AgentTopics(config.agent.id),
        loaded.section.filters,
        decoder,
        pipeline,
        Ranges(loaded.section.name, manifest.channels),
        suppression,
        engine,
        upkeep,
        most_s,
    )
