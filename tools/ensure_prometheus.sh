#!/bin/sh
# Finds Prometheus and promtool, or installs them where that is possible; the tests scrape metrics with the real one.
set -u
PATH="$PATH:/usr/sbin:/usr/local/sbin"
is_here() { command -v prometheus >/dev/null && command -v promtool >/dev/null; }
if is_here; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing prometheus"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null
    # Debian starts one of its own on port 9090; the tests start theirs on free ports.
    is_here && exit 0
fi
echo "prometheus is not installed and could not be; its tests are skipped (apt-get install prometheus, as root)" >&2
[ "${CI:-}" != "true" ]
