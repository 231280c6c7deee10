"""What a deployment is to be: which bundle, for whom, in which waves, and what stops it. As options or as TOML."""

from __future__ import annotations

import math
import re
import time
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import UsageError
from edge_agent.messages.values import read_length
from edge_agent.update.wishes import Minutes, Multiple, Readings, Url

__all__ = ["FleetPlan", "Halts", "OnHalt", "expiry_of", "length_of", "make_plan", "matching", "read_plan", "wave_sizes"]

_LIMIT_BYTES = 1 << 20
_OFFLINE_S = 60.0
_LONGEST_S = 3650 * 86_400.0


class OnHalt(StrEnum):
    """What becomes of agents that have the new bundle already when a deployment is halted."""

    ROLLBACK = "rollback"
    """They go back: what was wrong with one agent may be wrong with all, and the old bundle is known."""
    KEEP = "keep"


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How long something lasts: until both are reached; the agent's own where one is not given."""

    readings: Readings | None = None
    minutes: Minutes | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a new bundle may do on an agent, as multiples of what the old one did there."""

    alerts: Multiple | None = None
    latency: Multiple | None = None


class FleetPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deployment."""

    bundle: str
    """Path of the signed bundle."""
    stream: str
    """That it is for."""
    to: tuple[str, ...]
    """Patterns of agents' ids, such as `press-*`."""
    key: str
    """Path of the private key, which has signed the bundle, too."""
    waves: tuple[str, ...] = ("1", "10%", "100%")
    """How many agents have it after each wave, as a number or a share of all."""
    soak: str = "30m"
    """For how long all must be well after a wave, before the next."""
    halt_on: tuple[str, ...] = ("rollback", "alerts=3x", "offline")
    """What stops it; see `Halts`."""
    on_halt: OnHalt = OnHalt.ROLLBACK
    """What happens then to agents that have switched."""
    expires: str = "7d"
    """After this, an agent that was away takes it no more."""
    answer_within: str = "2m"
    """An agent that is online and says nothing of its wish for so long stops the deployment."""
    older: bool = False
    """A version that is not higher is meant."""
    other_model: bool = False
    """A bundle of another name than the one that runs is meant."""
    url: Url | None = None
    """Where agents get the file, in place of the broker."""
    shadow: Bounds = Bounds()
    probation: Bounds = Bounds()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Halts:
    """What stops a deployment by itself, from `rollback,alerts=3x,offline=60s`.

    An agent that refuses the bundle or rolls it back is one thing: it says that the bundle is bad.
    """

    rollback: bool = False
    alerts: float = math.inf
    """Open alerts of agents that have switched, as a multiple of what they had before, all together; of one, if they
    had none."""
    offline_s: float = math.inf
    """An agent that was online as it was asked, and has been away for so long."""

    @classmethod
    def of(cls, words: tuple[str, ...]) -> Halts:
        """Read the words.

        Raises:
            UsageError: one is not known.
        """
        found: dict[str, Any] = {}
        for word in words:
            name, _, value = word.partition("=")
            if name == "rollback" and not value:
                found["rollback"] = True
            elif name == "alerts" and (times := re.fullmatch(r"(\d+(?:\.\d+)?)x", value)):
                found["alerts"] = float(times[1])
            elif name == "offline":
                found["offline_s"] = length_of("--halt-on offline", value) if value else _OFFLINE_S
            else:
                raise UsageError(f"--halt-on {word!r}: expected rollback, alerts=3x or offline=60s")
        return cls(**found)


def wave_sizes(waves: tuple[str, ...], count: int) -> list[int]:
    """How many agents have been asked after each wave.

    Args:
        waves: numbers or shares, such as `1`, `10%`, `100%`, of all who have been asked then, so each is above the one
            before; a share that adds nobody to few agents is none, and the last one is all.
        count: of all agents.

    Raises:
        UsageError: one is neither, or not above the one before.
    """
    sizes: list[int] = []
    highest = {"": 0.0, "%": 0.0}
    for wave in waves:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", wave.strip())
        number = 0.0 if found is None else float(found[1])
        if found is None or number <= 0 or (number > 100 if found[2] else number % 1):
            raise UsageError(f"--waves {wave!r}: expected numbers of agents or shares of all, such as 1,10%,100%")
        if number <= highest[found[2]]:
            told = (
                "it is how many have been asked after the wave, so more than after the one before, such as 1,10%,100%"
            )
            raise UsageError(f"--waves {wave!r}: {told}")
        highest[found[2]] = number
        size = min(count, math.ceil(number * count / 100 - 1e-9) if found[2] else int(number))
        if size > (sizes[-1] if sizes else 0):
            sizes.append(size)
    return sizes if count in sizes[-1:] or not count else [*sizes, count]


def length_of(option: str, text: str) -> float:
    """A length of time, seconds.

    Raises:
        UsageError: it is none.
    """
    try:
        return read_length(text)
    except ValueError as exc:
        raise UsageError(f"{option} {text!r}: {exc}, such as 30m") from exc


def expiry_of(text: str) -> float:
    """When a wish that is made now expires, epoch seconds.

    Raises:
        UsageError: it is no length of time, none at all, or more than ten years.
    """
    length_s = length_of("--expires", text)
    if not 0 < length_s <= _LONGEST_S:
        raise UsageError(f"--expires {text!r}: expected a time above 0 and of at most 3650d")
    return time.time() + length_s


def matching(patterns: tuple[str, ...], names: list[str]) -> list[str]:
    """The names that one of the patterns means."""
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def read_plan(path: Path, changes: dict[str, Any]) -> FleetPlan:
    """A plan of a file.

    Args:
        path: TOML, whose keys are the fields of `FleetPlan`; paths in it begin at its folder.
        changes: keys that win over the file's.

    Raises:
        UsageError: the file cannot be read, or a key is wrong or missing.
    """
    try:
        with path.open("rb") as file:
            document = tomllib.loads(file.read(_LIMIT_BYTES).decode())
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read ({exc.strerror})") from exc
    except ValueError as exc:
        raise UsageError(f"{path}: is no plan ({exc})") from exc
    for key in ("bundle", "key"):
        if isinstance(document.get(key), str):
            document[key] = str(path.parent / document[key])
    return make_plan(str(path), {**document, **changes})


def _check_keys(where: str, values: dict[str, Any]) -> None:
    """See that nothing is missing, and that every key is one."""
    fields = msgspec.structs.fields(FleetPlan)
    missing = [field.name for field in fields if field.required and field.name not in values]
    if missing:
        options = ("BUNDLE" if name == "bundle" else f"--{name}" for name in missing)
        raise UsageError(f"{where}: missing: {', '.join(missing)}; give {' '.join(options)}, or a --plan that has it")
    tables: dict[str, type[msgspec.Struct]] = {"": FleetPlan, "shadow": Bounds, "probation": Bounds, "limits": Limits}
    for table, kind in tables.items():
        given = values.get(table, {}) if table else values
        known = [field.name for field in msgspec.structs.fields(kind)]
        if isinstance(given, dict) and (unknown := [key for key in given if key not in known]):
            raise UsageError(f"{where}: {table or 'a plan'} has no {unknown[0]!r}; it has {', '.join(known)}")


def make_plan(where: str, values: dict[str, Any]) -> FleetPlan:
    """A plan of its keys.

    Args:
        where: they come from, for messages.
        values: by key.

    Raises:
        UsageError: a key is wrong or missing.
    """
    for key in ("to", "waves", "halt_on"):
        if isinstance(values.get(key), str):
            values = {**values, key: [part for part in values[key].split(",") if part]}
    _check_keys(where, values)
    try:
        plan = msgspec.convert(values, FleetPlan)
    except msgspec.ValidationError as exc:
        raise UsageError(f"{where}: {exc}") from exc
    Halts.of(plan.halt_on)
    wave_sizes(plan.waves, 1000)
    for key in ("soak", "answer_within"):
        length_of(f"--{key.replace('_', '-')}", getattr(plan, key))
    expiry_of(plan.expires)
    return plan
