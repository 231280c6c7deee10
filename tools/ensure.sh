#!/bin/sh
# Finds programs that the tests have beside ours, or installs Debian's where that is possible: `ensure.sh NAME…`.
# In CI, one that is missing is a failure; elsewhere its tests are skipped.
set -u
PATH="$PATH:/usr/sbin:/usr/local/sbin"

# What a name means: its programs, and the packages that have them.
look_up() {
    case "$1" in
    mosquitto) programs=mosquitto packages=mosquitto ;;
    chromium) programs="chromium chromedriver" packages="chromium chromium-driver" ;;
    prometheus) programs="prometheus promtool" packages=prometheus ;;
    nginx) programs=nginx packages=nginx-light ;;
    compiler) programs=cc packages="gcc libc6-dev" ;;
    systemd-analyze) programs=systemd-analyze packages=systemd ;;
    influxdb) programs=influxd packages=influxdb ;;
    *) echo "ensure.sh: nobody knows $1" >&2 && exit 2 ;;
    esac
}

is_here() {
    for program in $programs; do
        command -v "$program" >/dev/null || return 1
    done
}

missing=0
for name in "$@"; do
    look_up "$name"
    is_here && continue
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $name"
        # In runlevel 1, Debian starts no server of its own: the tests start theirs, on free ports.
        retries="-o Acquire::Retries=5"
        # shellcheck disable=SC2086  # several words
        apt-get update -qq $retries && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends $retries $packages >/dev/null
        is_here && continue
    fi
    echo "$name is not installed and could not be; its tests are skipped (apt-get install $packages, as root)" >&2
    missing=1
done
[ "$missing" = 0 ] || [ "${CI:-}" != "true" ]
