"""The dashboard's connection to the broker, which may not be there yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Self

import paho.mqtt.client as paho

from edge_agent.errors import EdgeError
from edgetool.broker import BrokerAddress, BrokerAwayError, Session, close_client, open_client

__all__ = ["Connection"]

log = logging.getLogger(__name__)

_RETRY_S = 5.0
_STOP_S = 3.0
"""For an attempt that is under way when the dashboard ends."""


class Connection:
    """Tries to connect until that is done, or cannot be; from then on the client reconnects by itself.

    A person has to know at once of what waiting does not heal, such as a wrong password. A service that starts before
    its broker, as after a power cut, has to wait for it.

    Args:
        address: the broker.
        prepare: as of `open_client`.
        session: what the broker is to keep while we are away; None keeps nothing.
        on_error: called when nothing is tried any more; `error` says why.
    """

    def __init__(
        self,
        address: BrokerAddress,
        prepare: Callable[[paho.Client], None],
        *,
        session: Session | None,
        on_error: Callable[[], None],
    ) -> None:
        self._address = address
        self._prepare = prepare
        self._session = session
        self._on_error = on_error
        self._problem = ""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgetool.connecting", daemon=True)
        self.client: paho.Client | None = None
        """None before the first connection."""
        self.error: EdgeError | None = None
        """Why there will be no connection."""

    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self.client is not None and self.client.is_connected()

    @property
    def problem(self) -> str:
        """Why there is no connection, as far as that is known."""
        return "" if self.is_connected() else self._problem

    def __enter__(self) -> Self:
        """Try once, and on another thread until there is a connection.

        Raises:
            BrokerError: there is no host of that name, its certificate is not good, or it refuses us.
            UsageError: a file of the address cannot be used.
        """
        if not self._try():
            log.warning("waiting for the broker reason=%s", self._problem)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_S)
        if self.client is not None:
            close_client(self.client)

    def _run(self) -> None:
        try:
            while not self._is_over.wait(_RETRY_S) and not self._try():
                pass
        except EdgeError as exc:
            self.error = exc
            self._on_error()

    def _try(self) -> bool:
        try:
            client = open_client(self._address, self._prepare, self._session)
        except BrokerAwayError as exc:
            self._problem = str(exc)
            return False
        self._problem = ""
        client.on_disconnect = self._on_end
        self.client = client
        if self._is_over.is_set():
            close_client(client)
        return True

    def _on_end(self, _client: paho.Client, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        """Called on paho's thread."""
        self._problem = f"the broker ended the connection ({code})" if flags.is_disconnect_packet_from_server else ""
