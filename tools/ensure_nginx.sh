#!/bin/sh
# Finds nginx, or installs it where that is possible; a test has the dashboard behind the proxy that docs/dashboard.md shows.
set -u
PATH="$PATH:/usr/sbin:/usr/local/sbin"
if command -v nginx >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing nginx"
    # In runlevel 1 Debian starts no server of its own, which would take port 80.
    apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends nginx-light >/dev/null
    command -v nginx >/dev/null && exit 0
fi
echo "nginx is not installed and could not be; its test is skipped (apt-get install nginx-light, as root)" >&2
[ "${CI:-}" != "true" ]
