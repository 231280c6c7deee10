#!/bin/sh
# Finds InfluxDB, or installs it where that is possible.
set -u
command -v influxd >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing InfluxDB"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends influxdb >/dev/null
    command -v influxd >/dev/null && exit 0
fi
echo "InfluxDB is not installed and could not be (apt-get install influxdb, as root)" >&2
exit 1
