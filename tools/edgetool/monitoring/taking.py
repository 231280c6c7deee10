"""The thread that takes messages while pages are served."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Self

from edge_agent.errors import BrokerError
from edgetool.monitoring.intake import Intake
from edgetool.subscription import Subscription

__all__ = ["Taking"]


class Taking:
    """Hands messages to the intake, until the end of the block.

    At its end it takes what has come by then, because the broker has our receipt for it, and does not send it again
    when the next dashboard goes on with the session. So the connection has to be closed first.

    Args:
        arrived: where the messages come from.
        intake: takes them.
        chores: what else is to be done now and then on this thread, before the next message is taken.
        on_error: called when no more messages can come; `error` says why.
    """

    def __init__(
        self,
        arrived: Subscription,
        intake: Intake,
        chores: Sequence[Callable[[], object]],
        on_error: Callable[[], None],
    ) -> None:
        self._arrived = arrived
        self._intake = intake
        self._chores = chores
        self._on_error = on_error
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgetool.taking")
        self.error: BrokerError | None = None
        """Why nothing more comes."""

    def _run(self) -> None:
        try:
            while True:
                is_over = self._is_over.is_set()
                message = self._arrived.get()
                for chore in self._chores:
                    chore()
                if message is not None:
                    self._intake.take(message)
                elif is_over:
                    return
        except BrokerError as exc:
            self.error = exc
            self._arrived.close()
            self._on_error()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
