#!/bin/sh
# Finds mosquitto, or installs it where that is possible; the tests need a real broker beside the embedded one.
set -u
PATH="$PATH:/usr/sbin:/usr/local/sbin"
if command -v mosquitto >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing mosquitto"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto >/dev/null
    # Debian starts a broker of its own on port 1883; the tests start theirs on free ports.
    command -v mosquitto >/dev/null && exit 0
fi
echo "mosquitto is not installed and could not be; its tests are skipped (apt-get install mosquitto, as root)" >&2
[ "${CI:-}" != "true" ]
