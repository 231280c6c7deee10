"""Takes a sender's name of a value apart, as `Line1.Pump1.Pressure` by `Line1.{asset}.{channel}`."""

from __future__ import annotations

import re

__all__ = ["NameParser"]

_VARIABLE = re.compile(r"\{(\w+)\}")
_USED = ("asset", "channel")


class NameParser:
    """A template of names.

    Args:
        template: texts and `{asset}`, `{channel}`, `{any}` or others, that stand for a part without the signs around
            them; the last one takes all that is left.

    Raises:
        ValueError: it has no `{channel}`, one twice, or two side by side.
    """

    def __init__(self, template: str) -> None:
        names = _VARIABLE.findall(template)
        texts = _VARIABLE.split(template)[::2]
        if re.search(r"[{}]", "".join(texts)):
            raise ValueError("expected '{asset}', '{channel}' and '{any}', each closed")
        if names.count("channel") != 1 or names.count("asset") > 1:
            raise ValueError("expected one '{channel}', and at most one '{asset}'")
        if any(not text for text in texts[1:-1]):
            raise ValueError("expected a sign between two variables")
        pattern = re.escape(texts[0])
        for number, name in enumerate(names):
            behind = texts[number + 1]
            signs = re.escape(texts[number][-1:] + behind[:1])
            is_last = number == len(names) - 1 and not behind
            part = ".+" if is_last or not signs else f"[^{signs}]+"
            pattern += f"(?P<{name}>{part})" if name in _USED else f"(?:{part})"
            pattern += re.escape(behind)
        self._pattern = re.compile(pattern, re.DOTALL)
        self.names_asset = "asset" in names

    def parse(self, name: str) -> tuple[str | None, str] | None:
        """The asset, if the template names one, and the channel; None for a name of another form."""
        match = self._pattern.fullmatch(name)
        return None if match is None else (match.groupdict().get("asset"), match["channel"])
