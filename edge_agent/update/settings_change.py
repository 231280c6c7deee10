"""Settings of a stream that an operator wishes, tried before they are applied."""

from __future__ import annotations

import msgspec

from edge_agent.config.settings import StreamSection
from edge_agent.errors import EdgeError
from edge_agent.update.effective import with_settings
from edge_agent.update.proving import Beside, prove_settings
from edge_agent.update.surroundings import Surroundings
from edge_agent.update.wishes import Wish

__all__ = ["SettingsChange"]


class SettingsChange:
    """Of one wish; it is tried on a thread from the start.

    Args:
        wish: of a good signature.
        about: the agent and the stream.
    """

    def __init__(self, wish: Wish, about: Surroundings) -> None:
        self.wish = wish
        self._problem = ""
        self._work: Beside[StreamSection] | None = None
        try:
            # As they would be without what came before: a wish says all.
            section = msgspec.structs.replace(about.configured_section, bundle=about.section.bundle)
            section = with_settings(section, wish.settings)
        except EdgeError as exc:
            self._problem = "; ".join(exc.lines)
            return
        self._work = Beside(
            lambda look: prove_settings(section, about.bundle, about.config, look), "settings", about.wake
        )

    @property
    def is_done(self) -> bool:
        """Whether it was tried."""
        return self._work is None or self._work.is_done

    def problem(self) -> str | None:
        """Why the stream would not run with them; None if it would."""
        if self._work is None:
            return self._problem
        try:
            self._work.result()
        except (EdgeError, OSError) as exc:
            return str(exc)
        return None

    def stop(self) -> None:
        """Give it up."""
        if self._work is not None:
            self._work.stop()
