"""Loaded by each worker of this machine: Ctrl-C reaches the whole group of processes, and the command ends its own."""

import signal

__all__: list[str] = []

signal.signal(signal.SIGINT, signal.SIG_IGN)
