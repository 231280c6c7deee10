"""`edgetool fleet rollback`, `settings` and `recommission`: one signed wish for many agents, and their answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import UsageError
from edgetool.broker import BrokerAddress
from edgetool.commands.fleet_status import checked
from edgetool.fleet.asking import NO_ANSWER, Asking
from edgetool.fleet.choosing import choose, read_sent, see
from edgetool.fleet.deployment import Seen
from edgetool.fleet.leftovers import take_unwished
from edgetool.fleet.listening import listening
from edgetool.fleet.plan import expiry_of
from edgetool.fleet.publishing import Retained
from edgetool.fleet.wishes import Sent, Wisher, wish_topic
from edgetool.paths import StrPath
from edgetool.signing import read_private_key

__all__ = ["WishReport", "fleet_recommission", "fleet_rollback", "fleet_settings"]

_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class WishReport:
    """What became of a wish."""

    kind: str
    stream: str
    answers: dict[str, tuple[str, str]]
    """By agent: its state, such as `applied`, `refused` or `rolled_back`, and its reason; `no answer` of those that
    have not answered yet."""
    expires: float
    """Epoch seconds; until then, agents that were away obey."""
    seconds: float

    @property
    def is_done(self) -> bool:
        """Whether every agent has done it."""
        return all(state in ("applied", "rolled_back", "given_up") for state, _ in self.answers.values())

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "answers"}
        answers = {agent: {"state": state, "reason": reason} for agent, (state, reason) in self.answers.items()}
        return {**plain, "is_done": self.is_done, "answers": answers}


def fleet_rollback(
    *,
    stream: str,
    to: Sequence[str],
    key: StrPath,
    passphrase: str | None = None,
    expires: str = "1d",
    wait_s: float = _WAIT_S,
    agents: Sequence[str] = (),
    broker: BrokerAddress | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> WishReport:
    """Let agents go back to the bundle before, or take back an update that is under way.

    Args:
        stream: of the agents.
        to: patterns of agents' ids.
        key: file of the private key.
        passphrase: of that file; None where it has none.
        expires: until when an agent that is away obeys, from now.
        wait_s: for answers.
        agents: ids of all that there are, where the broker gives nothing that it keeps to a filter.
        broker: the local one when not given.
        on_progress: is given a line on each change.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us.
        UsageError: the key cannot be read, or no agent is meant.
    """

    def what(seen: Seen, kept: Sent | None) -> dict[str, Any]:
        # What is under way is taken back; to go back from it by a wish of its own would have to wait for its end. So is
        # what an agent that is away has not heard of: it runs the bundle that it is to go back to.
        obeyed = -1 if seen.update is None or seen.update.sequence is None else seen.update.sequence
        is_unheard = kept is not None and kept.bundle is not None and kept.holds and kept.sequence > obeyed
        is_under_way = seen.update is not None and seen.update.is_under_way
        return {"cancel": True} if is_unheard or is_under_way else {"rollback": True}

    return _send(
        "bundle",
        what,
        stream=stream,
        to=to,
        key=key,
        passphrase=passphrase,
        expires=expires,
        wait_s=wait_s,
        agents=agents,
        broker=broker,
        on_progress=on_progress,
    )


def fleet_settings(
    settings: Mapping[str, Any],
    *,
    stream: str,
    to: Sequence[str],
    key: StrPath,
    passphrase: str | None = None,
    expires: str = "7d",
    wait_s: float = _WAIT_S,
    agents: Sequence[str] = (),
    broker: BrokerAddress | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> WishReport:
    """Set what often changes: thresholds, alarm, commissioning, provider; in place of all that was set so before.

    Args:
        settings: keys of a `[[stream]]`; empty takes all of an earlier wish away.
        stream: as for `fleet_rollback`, and so on.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us.
        UsageError: the key cannot be read, or no agent is meant.
    """
    document = {"settings": {**settings}}
    return _send(
        "settings",
        lambda *_: document,
        stream=stream,
        to=to,
        key=key,
        passphrase=passphrase,
        expires=expires,
        wait_s=wait_s,
        agents=agents,
        broker=broker,
        on_progress=on_progress,
    )


def fleet_recommission(
    asset: str | None = None,
    *,
    stream: str,
    to: Sequence[str],
    key: StrPath,
    passphrase: str | None = None,
    expires: str = "1d",
    wait_s: float = _WAIT_S,
    agents: Sequence[str] = (),
    broker: BrokerAddress | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> WishReport:
    """Let agents set limits of assets anew from the readings that come now.

    Args:
        asset: whose; all when None.
        stream: as for `fleet_rollback`, and so on.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us.
        UsageError: the key cannot be read, or no agent is meant.
    """
    document = {} if asset is None else {"asset": asset}
    return _send(
        "recommission",
        lambda *_: document,
        stream=stream,
        to=to,
        key=key,
        passphrase=passphrase,
        expires=expires,
        wait_s=wait_s,
        agents=agents,
        broker=broker,
        on_progress=on_progress,
    )


def _send(
    kind: str,
    what: Callable[[Seen, Sent | None], dict[str, Any]],
    *,
    stream: str,
    to: Sequence[str],
    key: StrPath,
    passphrase: str | None,
    expires: str,
    wait_s: float,
    agents: Sequence[str],
    broker: BrokerAddress | None,
    on_progress: Callable[[str], None],
) -> WishReport:
    started_mono_s = time.monotonic()
    secret = read_private_key(Path(key), passphrase)
    wisher = Wisher(stream, secret, expiry_of(expires))
    if isinstance(to, str):
        raise UsageError(f"to = {to!r}: expected a list of patterns")
    with listening(broker, checked(agents)) as heard:
        heard.hear_all()
        chosen = choose(heard, stream, tuple(to))
        kept = read_sent(heard, wisher, [*chosen]) if kind == "bundle" else {}
        retained = Retained(heard.client, heard.hear, wisher.expires_s)
        asking = Asking(kind, wisher, retained, kept)
        for agent, seen in chosen.items():
            asking.ask(agent, seen, what(seen, kept.get(agent)))
        retained.flush()
        on_progress(f"{len(chosen)} agents were asked")
        waits_until_mono_s = time.monotonic() + wait_s
        answers: dict[str, tuple[str, str]] = {}
        while time.monotonic() < waits_until_mono_s:
            heard.hear()
            present = {agent: seen for agent, seen in see(heard.roster, stream).items() if agent in chosen}
            for agent in asking.ask_those_that_settled(present):
                on_progress(f"{agent} had settled before it heard of it, and is asked to go back")
            answers = {agent: asking.answer(agent, seen) for agent, seen in present.items()}
            if all(state != NO_ANSWER for state, _ in answers.values()):
                break
        for agent, (state, _) in answers.items():
            # An agent that was away takes it as it comes back.
            if state != NO_ANSWER:
                retained.put(wish_topic(agent, stream, kind), b"")
        retained.flush()
        if parts := [sent.bundle for sent in kept.values() if sent.bundle is not None]:
            take_unwished(heard, wisher, retained, parts)
    return WishReport(
        kind=kind, stream=stream, answers=answers, expires=wisher.expires_s, seconds=time.monotonic() - started_mono_s
    )
