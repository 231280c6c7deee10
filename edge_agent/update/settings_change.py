"""Settings of a stream that an operator wishes, tried before they are applied."""

from __future__ import annotations

import msgspec

from edge_agent.config.settings import StreamSection
from edge_agent.errors import EdgeError
from edge_agent.update.effective import with_settings
from edge_agent.update.ledger import Ledger
from edge_agent.update.proving import Beside, prove_settings
from edge_agent.update.store import Standing
from edge_agent.update.surroundings import Surroundings
from edge_agent.update.wishes import Kind, Wish

__all__ = ["SettingsChange"]


class SettingsChange:
    """Of one stream; the newest wish is tried on a thread.

    Args:
        about: the agent and the stream.
        ledger: of the stream; is told what became of each.
    """

    def __init__(self, about: Surroundings, ledger: Ledger) -> None:
        self._about = about
        self._ledger = ledger
        self._wish: Wish | None = None
        self._message = ""
        self._problem = ""
        self._work: Beside[StreamSection] | None = None
        self._before: Standing | None = None
        """As it was before the last ones were taken, which hold once the agent has started anew; None if none were."""

    def take(self, wish: Wish, message: str) -> None:
        """Begin with a wish of a good signature, in place of one that is being tried.

        Args:
            wish: for settings.
            message: the signed message that it was read from.
        """
        self.stop()
        about, self._wish, self._message, self._problem = self._about, wish, message, ""
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

    def tick(self) -> bool:
        """Conclude what was tried; gives whether the agent has to start anew with it."""
        wish = self._wish
        if wish is None or (self._work is not None and not self._work.is_done):
            return False
        problem, self._wish, self._work = self._verdict(), None, None
        if problem is not None:
            self._ledger.answer(wish, "refused", problem)
            return False
        standing = self._ledger.standing
        before = msgspec.structs.replace(standing)
        standing.settings, standing.settings_wish = wish.settings, self._message
        standing.threshold_for = self._about.running.sha256
        if self._ledger.save():
            self._before = self._before or before
            self._ledger.answer(wish, "applied", ", ".join(wish.settings) or "none is left")
            return True
        standing.settings, standing.settings_wish = before.settings, before.settings_wish
        standing.threshold_for = before.threshold_for
        self._ledger.answer(wish, "refused", "the disk does not take them")
        return False

    def as_it_runs(self, standing: Standing) -> Standing:
        """What is to be told of a standing: settings are applied once the agent has started anew with them."""
        before = self._before
        if before is None:
            return standing
        answers = {kind: answer for kind, answer in standing.answers.items() if kind != Kind.SETTINGS}
        if (answer := before.answers.get(Kind.SETTINGS)) is not None:
            answers[Kind.SETTINGS] = answer
        return msgspec.structs.replace(
            standing, settings=before.settings, threshold_for=before.threshold_for, answers=answers
        )

    def _verdict(self) -> str | None:
        """Why the stream would not run with them; None if it would."""
        if self._work is None:
            return self._problem
        try:
            self._work.result()
        except (EdgeError, OSError) as exc:
            return str(exc)
        return None

    def stop(self) -> None:
        """Give up what is being tried."""
        if self._work is not None:
            self._work.stop()
        self._wish = self._work = None
