"""Puts the rows of a record into the table of docs/reliability.md: `python tests/faults/table.py RECORD DOCUMENT`."""

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
HEAD = "| row | what is done, and what must hold | what came of it | date | result |\n| --- | --- | --- | --- | --- |"


def read_rows(record: Path) -> list[dict[str, Any]]:
    """The last result of every row, in the order of the first."""
    rows: dict[str, dict[str, Any]] = {}
    for line in record.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["test"]] = row
    return list(rows.values())


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
    return f"{cores}, Linux {platform.release()}, Python {python}, {broker}"


def main() -> None:
    """Replace what stands between the two marks."""
    record, document = map(Path, sys.argv[1:])
    lines = [f"`make faults` on {machine()}:", "", HEAD, *map(show, read_rows(record))]
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{document}: has no place for the results; expected {BEGIN} and {END}")
    document.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]), encoding="utf-8")


if __name__ == "__main__":
    main()
