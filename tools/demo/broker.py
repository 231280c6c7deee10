"""An embedded MQTT broker (amqtt) for the demo: `python tools/demo/broker.py PORT`, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from amqtt.broker import Broker

__all__ = ["main"]


async def _serve(port: int) -> None:
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await broker.start()
    await stop.wait()
    await broker.shutdown()


def main() -> None:
    """Serve on a port of the loopback interface."""
    logging.basicConfig(level=logging.CRITICAL)
    asyncio.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
