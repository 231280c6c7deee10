#!/bin/sh
# Finds systemd-analyze, or installs it where that is possible; it judges the units of the service, and starts nothing.
set -u
if command -v systemd-analyze >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing systemd-analyze"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd >/dev/null
    command -v systemd-analyze >/dev/null && exit 0
fi
echo "systemd-analyze is not installed and could not be; its tests are skipped (apt-get install systemd, as root)" >&2
[ "${CI:-}" != "true" ]
