#!/usr/bin/env bash
# Expected: `uvicorn.run` returns after SIGTERM, once it has answered what it was answering, as a server that handles the
# signal does. So what the program puts away behind it, in a `finally` or at the end of a `with`, is put away.
# Found: uvicorn notes the signal, shuts down in good order, and then sends the same signal to its own process, with the
# handlers of before put back: for SIGTERM the default, which ends the process at once. Nothing behind the call runs: no
# `finally`, no `with` block's end, no `atexit`. A database is not closed, a temporary folder stays, and the exit code is
# 143. (SIGINT becomes a KeyboardInterrupt there, so `finally` is reached.)
# Versions: uvicorn 0.54.0 and 0.30.0, Python 3.11.7, Linux x86-64. Date: 2026-11-30.
# Exits with 1 if what stands behind `uvicorn.run` is reached.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/trial.py" <<'PYTHON'
import atexit
import os
import signal
import sys
import threading
from importlib.metadata import version

import uvicorn


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        # As from outside, once the server runs.
        threading.Timer(1, os.kill, (os.getpid(), getattr(signal, sys.argv[1]))).start()
        await receive()
        print("  the server was shut down in good order", flush=True)
        await send({"type": "lifespan.shutdown.complete"})


print(f"uvicorn {version('uvicorn')}, {sys.argv[1]}", flush=True)
atexit.register(print, "  atexit")
try:
    uvicorn.run(app, port=0, log_level="critical")
finally:
    print("  finally: reached", flush=True)
PYTHON
found=0
for version in 0.54.0 0.30.0; do
    python3 -m venv "$folder/venv-$version"
    "$folder/venv-$version/bin/pip" install --quiet "uvicorn==$version"
    for signal in SIGINT SIGTERM; do
        code=0
        "$folder/venv-$version/bin/python" "$folder/trial.py" "$signal" >"$folder/said" || code=$?
        cat "$folder/said"
        echo "  exit code $code"
        if [ "$signal" = SIGTERM ] && grep -q "good order" "$folder/said" && ! grep -q "reached" "$folder/said"; then
            found=$((found + 1))
        fi
    done
done
[ "$found" = 2 ]
