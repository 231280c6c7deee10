"""Readings of an OPC UA server, by asyncua."""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from edge_agent.errors import MissingExtraError
from edge_agent.mqtt.credentials import read_secret
from edge_agent.setting_types import FilePath, Seconds, Text
from edge_agent.sources.polled import Reading

__all__ = ["SCHEME", "OpcuaPoller", "OpcuaSettings", "opcua_address"]

SCHEME = "opc.tcp"
_ASSET = "{asset}"
_DEFAULT_ASSET = "default"


class OpcuaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[stream.opcua]`: what is read from the server behind `input = "opc.tcp://HOST:PORT"`."""

    interval_s: Seconds = 1.0
    """Time from one round to the next."""
    timeout_s: Seconds = 4.0
    """How long an answer is waited for."""
    assets: Annotated[tuple[str, ...], Meta(description="a list of assets")] = ()
    """What `{asset}` in a node stands for; `default` where no node has it."""
    nodes: dict[str, str] = {}
    """By channel, the node's id: `ns=2;s={asset}.Pressure`."""
    uncertain: bool = True
    """A value whose status is uncertain counts; else it is missing. One whose status is bad is missing always."""
    username: Text | None = None
    password_file: FilePath | None = None


def opcua_address(place: str) -> str:
    """The address of `opc.tcp://HOST:PORT/PATH`, as it is.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(place)
    if parts.scheme != SCHEME or not parts.hostname:
        raise ValueError(f"expected opc.tcp://HOST:PORT, found {place!r}")
    if parts.username or parts.password:
        raise ValueError("expected username and password_file in [stream.opcua], not in the address")
    return place


class OpcuaPoller:
    """Reads the nodes of each asset in one request. See `Poller`.

    Args:
        place: `opc.tcp://HOST:PORT`.
        settings: what is read.

    Raises:
        MissingExtraError: asyncua is not installed.
        ValueError: a node's id is none.
    """

    def __init__(self, place: str, settings: OpcuaSettings) -> None:
        # Only where something is asked: every agent reads these settings, and asyncio is a thirtieth of a start.
        import asyncio

        try:
            from asyncua.ua.uatypes import NodeId
        except ImportError as exc:
            raise MissingExtraError("asyncua", "opcua") from exc
        # What it has to say of a server that is away, again and again, is told once.
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        self._place = opcua_address(place)
        self._settings = settings
        self.interval_s = settings.interval_s
        self._assets = list(settings.assets) or [_DEFAULT_ASSET]
        self._nodes: dict[str, list[Any]] = {}
        for asset in self._assets:
            nodes = [(name, node.replace(_ASSET, asset)) for name, node in settings.nodes.items()]
            self._nodes[asset] = [_node_of(NodeId, *each) for each in nodes]
        self._loop = asyncio.new_event_loop()
        self._client: Any = None

    def assets(self) -> list[str]:
        """See `Poller.assets`."""
        return list(self._assets)

    def ask(self, asset: str) -> Reading | None:
        """See `Poller.ask`."""
        import asyncio

        at_s = time.time()
        try:
            values = self._loop.run_until_complete(asyncio.wait_for(self._read(asset), 2 * self._settings.timeout_s))
        except Exception as exc:
            # Whatever it was, the connection is made anew; many of the library's errors have no text.
            self._loop.run_until_complete(self._leave())
            raise OSError(f"{self._place}: {type(exc).__name__} {exc}".rstrip()) from exc
        return (asset, at_s, values) if any(value is not None for value in values.values()) else None

    def close(self) -> None:
        """See `Poller.close`."""
        self._loop.run_until_complete(self._leave())
        self._loop.close()

    async def _read(self, asset: str) -> dict[str, float | None]:
        from asyncua.ua.attribute_ids import AttributeIds

        if self._client is None:
            await self._connect()
        found = await self._client.uaclient.read_attributes(self._nodes[asset], AttributeIds.Value)
        return dict(zip(self._settings.nodes, map(self._value_of, found), strict=True))

    def _value_of(self, found: Any) -> float | None:
        """The number in an answer; None where its status is bad, or it is none."""
        status = found.StatusCode
        if status is not None and (status.is_bad() or (status.is_uncertain() and not self._settings.uncertain)):
            return None
        value = None if found.Value is None else found.Value.Value
        if not isinstance(value, bool | int | float):
            return None
        return float(value) if math.isfinite(value) else None

    async def _connect(self) -> None:
        from asyncua.client.client import Client

        settings = self._settings
        client = Client(self._place, timeout=settings.timeout_s)
        if settings.username is not None:
            client.set_user(settings.username)
            if settings.password_file is not None:
                client.set_password(read_secret(Path(settings.password_file), named="[stream.opcua] password_file"))
        await client.connect()
        self._client = client

    async def _leave(self) -> None:
        import asyncio

        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.disconnect(), self._settings.timeout_s)
        # Of what the library left running, nothing may wait for the next round.
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def _node_of(kind: Any, channel: str, text: str) -> Any:
    """A node's id, read once; before the first round, so that a wrong one is told at the start."""
    try:
        return kind.from_string(text)
    except Exception as exc:  # the library has errors of its own for this, with and without a text
        raise ValueError(f"nodes.{channel} = {text!r}: expected an id such as ns=2;s=Pump1.Pressure") from exc
