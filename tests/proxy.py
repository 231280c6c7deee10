"""A network between the agent and the broker that can be cut, slowed, delayed and reset, without a word to either."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from dataclasses import dataclass

__all__ = ["Proxy", "Weather"]

_CHUNK_BYTES = 16384
_LOOK_S = 0.02
_LINGER_RESET = struct.pack("ii", 1, 0)
"""Closing a socket with this sends a reset instead of an end."""

_Pieces = asyncio.Queue[tuple[float, bytes]]
"""Data with the time when it is due; empty at the end of a direction."""


@dataclass(slots=True)
class Weather:
    """What the network does now; changed while it runs."""

    cut: bool = False
    """Nothing passes, in either direction, and nobody is told. New connections are accepted and say nothing."""
    delay_s: float = 0.0
    """Each way."""
    bytes_per_s: float = 0.0
    """Each way; 0 is no limit."""
    resets: float = 0.0
    """Chance that a piece of data (up to 16 KiB) resets its connection instead of passing."""


@dataclass(slots=True)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    half_open: bool = False


class Proxy:
    """Forwards TCP connections on a port of its own.

    Args:
        target_port: on 127.0.0.1.
        seed: of the resets.
        host: address to listen on.
    """

    def __init__(self, target_port: int, *, seed: int = 0, host: str = "127.0.0.1") -> None:
        self.weather = Weather()
        self.connections = 0
        """Accepted so far."""
        self.resets = 0
        self._target_port = target_port
        self._chance = random.Random(seed)
        self._listener = socket.create_server((host, 0))
        self.port = int(self._listener.getsockname()[1])
        self._links: list[_Link] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def half_open(self) -> None:
        """Take the broker's end of every connection away; the agent's end stays open and hears nothing more."""

        def take_away() -> None:
            for link in self._links:
                link.half_open = True
                link.server.transport.abort()

        self._loop.call_soon_threadsafe(take_away)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        self._loop.run_until_complete(self._end(server))
        self._loop.close()

    async def _end(self, server: asyncio.Server) -> None:
        self._loop.remove_reader(self._listener)
        await asyncio.sleep(_LOOK_S)  # what was accepted last begins: a server that is closed forgets its socket
        server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving)
        await asyncio.sleep(_LOOK_S)  # transports close their sockets in the next rounds

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._clear_sky()
            far_reader, server = await asyncio.open_connection("127.0.0.1", self._target_port)
            await self._forward(reader, client, far_reader, server)
        except (OSError, asyncio.CancelledError):
            pass  # there is no broker, or this is the end of the proxy
        finally:
            client.transport.abort()
            self._serving.remove(task)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        link = _Link(client, server)
        self._links.append(link)
        to_server: _Pieces = asyncio.Queue(64)
        to_client: _Pieces = asyncio.Queue(64)
        works = (
            self._read(reader, to_server),
            self._write(to_server, server, link),
            self._read(far_reader, to_client),
            self._write(to_client, client, link),
        )
        tasks = [asyncio.create_task(work) for work in works]
        try:
            # A reader's end comes after its data, so it is the writers that end a link.
            await asyncio.wait([tasks[1], tasks[3]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.remove(link)
            # First, because the end of the proxy cancels what is awaited here.
            for writer in (client, server):
                writer.transport.abort()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _clear_sky(self) -> None:
        while self.weather.cut:  # noqa: ASYNC110  # the test's thread changes it
            await asyncio.sleep(_LOOK_S)

    async def _read(self, reader: asyncio.StreamReader, pieces: _Pieces) -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(_CHUNK_BYTES)
            except OSError:
                data = b""
            await pieces.put((self._loop.time() + self.weather.delay_s, data))

    async def _write(self, pieces: _Pieces, writer: asyncio.StreamWriter, link: _Link) -> None:
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._clear_sky()
            if link.half_open and (writer is link.server or not data):
                continue  # the agent must not notice
            if not data:
                return
            if self._chance.random() < self.weather.resets:
                self.resets += 1
                with contextlib.suppress(OSError):
                    sock = link.client.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
                return
            while data:
                rate = self.weather.bytes_per_s
                piece = data[: max(1, int(rate / 10))] if rate else data
                data = data[len(piece) :]
                writer.write(piece)
                await writer.drain()
                if rate:
                    await asyncio.sleep(len(piece) / rate)
