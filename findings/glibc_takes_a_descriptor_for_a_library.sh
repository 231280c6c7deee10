#!/usr/bin/env bash
# Expected: a library that is opened, checked by its open file and then loaded as /proc/self/fd/N is the one that was checked.
# Found: where the file is closed after the load, the next one gets the same number N, and dlopen gives the first library
# once more: it knows what is loaded by its path. So a file that is loaded this way has to stay open.
# Versions: glibc 2.36, Python 3.11.7, gcc 12.2.0, Linux 6.18 x86-64. Date: 2026-11-30.
# Exits with 1 if the second library is loaded, with 2 where there is no C compiler.
set -euo pipefail
command -v cc >/dev/null || { echo "no C compiler is here" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for number in 1 2; do
    echo "int number(void) { return $number; }" >"$folder/$number.c"
    cc -shared -fPIC -o "$folder/$number.so" "$folder/$number.c"
done
cat >"$folder/trial.py" <<'PYTHON'
import ctypes
import os
import platform
import sys

folder = sys.argv[1]
print(f"Python {platform.python_version()}, {' '.join(platform.libc_ver())}, {platform.release()}")


def load(number, *, stays_open):
    descriptor = os.open(f"{folder}/{number}.so", os.O_RDONLY)
    found = ctypes.CDLL(f"/proc/self/fd/{descriptor}").number()
    if not stays_open:
        os.close(descriptor)
    print(f"library {number} as /proc/self/fd/{descriptor}, left {'open' if stays_open else 'closed'}: is {found}")
    return found


closed = [load(number, stays_open=False) for number in (1, 2)]
# What was closed stands for library 1 for ever, so the number is taken by something else.
os.open("/dev/null", os.O_RDONLY)
open_ = [load(number, stays_open=True) for number in (1, 2)]
sys.exit(0 if closed == [1, 1] and open_ == [1, 2] else 1)
PYTHON
python3 "$folder/trial.py" "$folder"
