"""The thread that takes messages while pages are served."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from edge_agent.errors import BrokerError
from edgetool.monitoring.history import History
from edgetool.monitoring.intake import Intake
from edgetool.subscription import Subscription

__all__ = ["Taking"]


class Taking:
    """Hands messages to the intake, and lets the history write, until the end of the block.

    Args:
        arrived: where the messages come from.
        intake: takes them.
        history: is written on this thread.
        on_error: called when no more messages can come; `error` says why.
    """

    def __init__(self, arrived: Subscription, intake: Intake, history: History, on_error: Callable[[], None]) -> None:
        self._arrived = arrived
        self._intake = intake
        self._history = history
        self._on_error = on_error
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgetool.taking")
        self.error: BrokerError | None = None
        """Why nothing more comes."""

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                message = self._arrived.get()
            except BrokerError as exc:
                self.error = exc
                self._on_error()
                return
            if message is not None:
                self._intake.take(message)
            self._history.commit_if_due()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
