"""Puts the rows of a record into the table of docs/reliability.md.

`python tests/faults/table.py RECORD DOCUMENT [--keep]`: with `--keep`, rows that the record has not stay as they are.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

BEGIN = "<!-- the results of `make faults` begin -->"
END = "<!-- the results of `make faults` end -->"
OTHERS = "| killed_behind_a_broker["
HEAD = "| row | what is done, and what must hold | what came of it | date | result |\n| --- | --- | --- | --- | --- |"


def read_rows(record: Path) -> list[dict[str, Any]]:
    """The last result of every row, in the order of their files and tests."""
    rows: dict[str, dict[str, Any]] = {}
    for line in record.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["test"]] = row
    return [rows[name] for name in sorted(rows, key=lambda name: name.partition("::")[0])]


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    name = row["test"].partition("::")[2].removeprefix("test_")
    facts = "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in row["facts"].items())
    form = "" if row["form"] == "full" else " (short form)"
    return f"| {name} | {row['fault']} | {facts} | {row['date']} | {row['outcome']} in {row['seconds']:.0f} s{form} |"


def machine() -> str:
    """What the rows were run on."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.+)", info.read_text(encoding="utf-8")) if info.exists() else []
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    broker = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    python = platform.python_version()
    cpu = models[0] if models else platform.machine()
    cores = f"{os.cpu_count()} cores of {cpu}, {memory_gib:.0f} GiB"
    return f"{cores}, Linux {platform.release().partition('-')[0]}, Python {python}, {broker}"


def merge(old: str, rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the table with these rows in it, each in its old place if it has one."""
    lines = {line.split(" | ")[0]: line for line in old.splitlines() if re.match(r"\| [a-z]\w+", line)}
    lines.pop("| row", None)
    lines.update({line.split(" | ")[0]: line for line in map(show, rows)})
    return list(lines.values())


def main() -> None:
    """Replace what stands between the two marks."""
    record, document = map(Path, sys.argv[1:3])
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    old, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{document}: has no place for the results; expected {BEGIN} and {END}")
    # Rows behind other brokers than mosquitto are run one broker at a time.
    others = "\n".join(line for line in old.splitlines() if line.startswith(OTHERS))
    lines = merge(old if "--keep" in sys.argv else others, read_rows(record))
    text = "\n".join([f"`make faults` on {machine()}:", "", HEAD, *lines])
    document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
