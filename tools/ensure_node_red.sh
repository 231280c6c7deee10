#!/bin/sh
# Finds Node-RED 4 below build/node-red, or installs it there with its node for mail; npm runs no script of a package.
set -eu
folder="$(dirname "$0")/../build/node-red"
[ -f "$folder/node_modules/node-red/red.js" ] && [ -d "$folder/node_modules/node-red-node-email" ] && exit 0
if ! command -v npm >/dev/null; then
    echo "npm is not installed (apt-get install npm, as root)" >&2
    exit 1
fi
echo "installing Node-RED into build/node-red (125 MB)"
npm install --ignore-scripts --no-audit --no-fund --silent --prefix "$folder" node-red@4.1.15 node-red-node-email@5.2.5
