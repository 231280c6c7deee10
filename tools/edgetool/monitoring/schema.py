"""The tables of a history."""

__all__ = ["FORMAT", "TABLES"]

FORMAT = 1
"""Becomes 2 where a dashboard of before could not read the file."""

TABLES = f"""
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY, agent TEXT, stream TEXT, asset TEXT, UNIQUE (agent, stream, asset));
CREATE TABLE IF NOT EXISTS points (
    id INTEGER PRIMARY KEY, series INTEGER, time REAL, received REAL, score REAL, highest REAL, threshold REAL,
    clear REAL, state TEXT, channels BLOB);
CREATE UNIQUE INDEX IF NOT EXISTS points_by_time ON points (series, time);
CREATE TABLE IF NOT EXISTS alerts (
    agent TEXT, id TEXT, stream TEXT, asset TEXT, state TEXT, raised REAL, until REAL, received REAL, body BLOB,
    PRIMARY KEY (agent, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alerts_by_asset ON alerts (agent, stream, asset, raised);
CREATE INDEX IF NOT EXISTS alerts_by_time ON alerts (received);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, agent TEXT, alert TEXT, event TEXT, time TEXT, received REAL, body BLOB,
    UNIQUE (agent, alert, event, time));
CREATE TABLE IF NOT EXISTS evidence (
    id INTEGER PRIMARY KEY, agent TEXT, alert TEXT, stream TEXT, asset TEXT, part INTEGER, parts INTEGER, received REAL,
    body BLOB, UNIQUE (agent, alert, part));
CREATE TABLE IF NOT EXISTS own (only INTEGER PRIMARY KEY CHECK (only = 1), client_id TEXT, inode INTEGER);
CREATE TABLE IF NOT EXISTS marks (agent TEXT, alert TEXT, body BLOB, PRIMARY KEY (agent, alert)) WITHOUT ROWID;
PRAGMA user_version = {FORMAT};
"""
"""Times are epoch seconds: `time`, `raised` and `until` by the readings, `received` by the dashboard's own clock.

`own` has one row: the name at the broker, and the file that it was made for.
"""
