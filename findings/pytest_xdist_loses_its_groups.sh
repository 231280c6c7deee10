#!/usr/bin/env bash
# Expected: `pytest -n 2 --dist loadgroup` runs all tests marked xdist_group("one") in one process, one after another, as
# pytest-xdist's documentation says.
# Found: under pytest 9.2.0, pytest-xdist 3.8.0 sends them to any process, two at once, without a warning: it writes the
# group into item._nodeid, which pytest reads no more. Under pytest 9.1.1 it is as said.
# Both are the newest versions on the date below.
# Versions: pytest 9.2.0 and 9.1.1, pytest-xdist 3.8.0, Python 3.11, Linux x86-64. Date: 2026-11-30.
# Exits with 1 if the group is kept together under pytest 9.2.0, or is not under 9.1.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/test_group.py" <<'PYTHON'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(6))
def test_member(number):
    time.sleep(0.3)
    with open("processes", "a") as file:
        file.write(f"{os.getpid()}\n")
PYTHON
cd "$folder"
for version in 9.1.1 9.2.0; do
    venv/bin/pip install --quiet --disable-pip-version-check "pytest==$version" pytest-xdist==3.8.0
    rm -f processes
    venv/bin/pytest -q -p no:cacheprovider -W error -n 2 --dist loadgroup test_group.py >/dev/null
    found=$(sort -u processes | wc -l)
    echo "pytest $version, pytest-xdist 3.8.0, $(venv/bin/python --version): a group of 6 tests ran in $found process(es)"
    [ "$version" = 9.2.0 ] && lost=$found || kept=$found
done
[ "$kept" = 1 ] && [ "$lost" = 2 ]
