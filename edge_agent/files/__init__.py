"""Reads and writes files: plain ones that are whole or not there, and archives and rows from anybody, within bounds."""

__all__: list[str] = []
