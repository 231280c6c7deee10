#!/usr/bin/env bash
# Expected: a data block of pymodbus's server that begins at address 1 gives its first value for a request of address 1,
# and a block may begin at 0.
# Found: every block is shifted by one. A block that begins at 1 gives its first value for address 0 and its second one
# for address 1. One that begins at 0, as most examples have it, is refused by a TypeError that says
# "0 <= address < 65535". The parameter zero_mode of earlier versions, which took the shift away, is there no more.
# Versions: pymodbus 3.16.1, Python 3.11, Linux x86-64. Date: 2026-11-30.
# Exits with 1 if a block is not shifted any more, or may begin at 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pymodbus==3.16.1
cat >"$folder/trial.py" <<'PYTHON'
import asyncio
import platform
import socket
import sys

import pymodbus
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusTcpServer


async def ask():
    """Holding registers 0, 1 and 2 of a server whose block of 10, 11, 12 begins at 1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    device = ModbusDeviceContext(hr=ModbusSequentialDataBlock(1, [10, 11, 12]))
    server = ModbusTcpServer(ModbusServerContext(devices=device), address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    answer = await client.read_holding_registers(0, count=3)
    client.close()
    await server.shutdown()
    return answer.registers


def tried(make):
    try:
        make()
    except TypeError as error:
        return f"refused ({error})"
    return "accepted"


print(f"pymodbus {pymodbus.__version__}, Python {platform.python_version()}")
found = asyncio.run(ask())
print(f"block of 10, 11, 12 at 1: addresses 0, 1 and 2 give {found}")
at_zero = tried(lambda: ModbusSequentialDataBlock(0, [10, 11, 12]))
print(f"the same at 0: {at_zero}")
print(f"zero_mode=True: {tried(lambda: ModbusDeviceContext(zero_mode=True))}")
sys.exit(0 if found == [10, 11, 12] and at_zero.startswith("refused") else 1)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py"
