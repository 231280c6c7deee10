#!/bin/sh
# Finds Chromium and its driver, or installs them where that is possible; the dashboard is tested in a real browser.
set -u
if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null
    command -v chromedriver >/dev/null && exit 0
fi
echo "chromium is not installed and could not be; its tests are skipped (apt-get install chromium chromium-driver, as root)" >&2
[ "${CI:-}" != "true" ]
