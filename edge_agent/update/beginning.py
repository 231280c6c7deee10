"""What a start makes of the updates on the disk: which bundle runs, and what a run that ended badly says of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.bundle import Bundle
from edge_agent.config.settings import Config, StreamSection
from edge_agent.errors import EdgeError
from edge_agent.files.checksum import file_hash
from edge_agent.messages.text import iso_time
from edge_agent.trust import Keys, load_keys
from edge_agent.update.effective import settings_problem, stores_of, with_updates
from edge_agent.update.proving import problem_with_file
from edge_agent.update.store import BundleFile, Standing, Store

__all__ = ["Beginning", "Begun", "problem_of"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run is told of its updates, each by stream."""

    stores: dict[str, Store]
    sections: dict[str, StreamSection]
    """As the file has them."""
    running: dict[str, BundleFile]
    configured: dict[str, BundleFile]
    try_start: Callable[[], list[Bundle]]
    """See `Beginning`."""


class Beginning:
    """Of one start of the agent, which has the state folder to itself.

    Args:
        config: as the file has it.
        try_start: reads the configuration and its bundles as a new start would, and raises EdgeError where that would
            end with it; may be called on any thread.
    """

    def __init__(self, config: Config, try_start: Callable[[], list[Bundle]] = list) -> None:
        self._config = config
        self._try_start = try_start
        self._stores = stores_of(config)
        self._standings = {name: store.load() for name, store in self._stores.items()}

    def take_up(self) -> Config:
        """The configuration that runs. What ended over a new bundle has rolled that back, and what is on probation is
        marked: if this run ends without a word, the next one rolls it back.
        """
        for name, standing in self._standings.items():
            ended = "the agent ended over it: a crash, a kill, a watchdog, or the power was cut"
            if standing.is_running and self._roll_back(name, ended):
                continue
            if standing.state.is_on_trial:
                standing.is_running = True
                if not self._save(name):
                    # Without its mark, a bundle that ends the agent would do so at each start.
                    self._roll_back(name, "the disk does not take the mark that a run on probation needs")
            elif standing.active is not None and not self._stores[name].path(standing.active.sha256).exists():
                self._roll_back(name, f"the file of {standing.active} is gone")
        for section in self._config.streams:
            if section.name in self._stores:
                self._drop_misfits(section)
        return with_updates(self._config, self._standings)

    def _drop_misfits(self, section: StreamSection) -> None:
        standing = self._standings[section.name]
        problem = settings_problem(section, standing, self._stores[section.name], self._config.trust)
        if problem is not None:
            log.warning("settings that came over the broker are left out stream=%s problem=%r", section.name, problem)
            standing.drop_settings(iso_time(time.time()), problem)
            self._save(section.name)

    def ended_in_order(self) -> None:
        """The run ends because it was asked to, perhaps before it had begun: that says nothing of a bundle."""
        for name, store in self._stores.items():
            standing = self._standings[name] = store.load()
            if standing.is_running:
                standing.is_running = False
                self._save(name)

    def failed(self, problem: str) -> bool:
        """The run has failed. Gives whether a bundle was rolled back for it, so that another start helps.

        That is one on probation, or one whose file cannot be used any more.
        """
        rolled_back = False
        for name, store in self._stores.items():
            standing = self._standings[name] = store.load()
            spoilt = None
            if standing.active is not None and not standing.state.is_on_trial:
                spoilt = problem_with_file(store.path(standing.active.sha256), self._keys())
            if standing.state.is_on_trial or spoilt is not None:
                rolled_back |= self._roll_back(name, problem if spoilt is None else spoilt)
        return rolled_back

    def begun(self, config: Config, bundles: list[Bundle]) -> Begun | None:
        """What the run is told; None where no update may come.

        Args:
            config: from `take_up`.
            bundles: of its streams.
        """
        if not self._stores:
            return None
        running, configured = {}, {}
        sections = {section.name: section for section in self._config.streams}
        for section, bundle in zip(config.streams, bundles, strict=True):
            name = section.name
            if name not in self._stores:
                continue
            standing, manifest = self._standings[name], bundle.manifest
            is_configured = section.bundle == sections[name].bundle
            active = standing.active
            if is_configured and active is not None:
                self._end(name, standing)
            if not is_configured and active is not None:
                running[name] = active
                configured[name] = standing.configured or active
                continue
            file = BundleFile(sha256=_hash(Path(section.bundle)), name=manifest.name, version=manifest.version)
            running[name] = configured[name] = file
        return Begun(self._stores, sections, running, configured, self._try_start)

    def _end(self, name: str, standing: Standing) -> None:
        """Somebody has put another bundle on the device: that is the last word."""
        standing.go_back(iso_time(time.time()), "the configuration names another file than the update was for")
        standing.active = standing.former = standing.configured = None
        log.warning("update ended, the configured bundle is another one now stream=%s", name)
        self._save(name)

    def _roll_back(self, name: str, reason: str) -> bool:
        """Put the last bundle in charge that can run; gives whether there is one beside the one that has to go."""
        standing, store = self._standings[name], self._stores[name]
        configured = Path(next(each.bundle for each in self._config.streams if each.name == name))
        former = standing.former
        if former is not None and problem_with_file(store.path(former.sha256), self._keys()) is not None:
            standing.former = former = None
        if former is None and (problem := problem_with_file(configured, self._keys())) is not None:
            log.error("not rolled back stream=%s reason=%r: the one before cannot run: %s", name, reason, problem)
            standing.keep(iso_time(time.time()), f"{reason}; the one before cannot run: {problem}")
            self._save(name)
            return False
        log.error("rolled back stream=%s bundle=%s reason=%r", name, standing.active, reason)
        standing.go_back(iso_time(time.time()), reason)
        self._save(name)
        return True

    def _keys(self) -> Keys:
        return load_keys([Path(key) for key in self._config.trust.keys])

    def _save(self, name: str) -> bool:
        """Gives whether the disk has it. If not, the run goes on with what is meant."""
        try:
            self._stores[name].save(self._standings[name])
        except OSError as exc:
            log.warning("update not noted on the disk stream=%s error=%s", name, exc)
            return False
        return True


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError:
        return ""


def problem_of(exc: BaseException) -> str:
    """An error in a line."""
    lines = exc.lines if isinstance(exc, EdgeError) else (f"{type(exc).__name__}: {exc}",)
    return lines[0] if lines else type(exc).__name__
