#!/usr/bin/env bash
# Expected: node-red-node-email sends a payload that is a plain text as a plain text, so that a person reads what was written.
# Found: where a letter follows a "<" and a ">" comes anywhere behind it, the mail gets the same text as HTML beside it, without
# being asked to. Of "flow <min, pressure >max" a reader of mail then shows "flow max": all between the two is taken for a tag. A
# name that a sender chose becomes markup in the mail in the same way. A text with "<" and a blank behind stays a plain one.
# Versions: node-red 4.1.15, node-red-node-email 5.2.5, Node.js 20.20.2, aiosmtpd 1.4.6, Python 3.11.7, Linux x86-64. Date: 2026-11-30.
# Exits with 1 if the mail is plain text alone, with 2 where npm is not installed.
set -euo pipefail
command -v npm >/dev/null || { echo "npm is not installed here" >&2; exit 2; }
folder=$(mktemp -d)
pids=()
end() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$folder"; }
trap end EXIT
npm install --ignore-scripts --no-audit --no-fund --silent --prefix "$folder" node-red@4.1.15 node-red-node-email@5.2.5
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiosmtpd==1.4.6
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$folder/settings.js" <<'JS'
module.exports = {httpAdminRoot: false, httpNodeRoot: false, uiPort: 0, uiHost: "127.0.0.1", flowFile: "flows.json",
    credentialSecret: false, telemetry: {enabled: false}, logging: {console: {level: "warn"}}};
JS
cat >"$folder/flows.json" <<JSON
[{"id": "tab", "type": "tab", "label": "mail"},
 {"id": "once", "type": "inject", "z": "tab", "props": [], "once": true, "onceDelay": 0.5, "wires": [["write"]]},
 {"id": "write", "type": "function", "z": "tab", "outputs": 1, "wires": [["send"]], "func":
  "const from = 'a@b.example'; return [[{topic: 'tag', payload: 'flow <min, pressure >max', from}, {topic: 'blank', payload: 'flow < min, pressure > max', from}]];"},
 {"id": "send", "type": "e-mail", "z": "tab", "server": "127.0.0.1", "port": "$port", "authtype": "NONE", "secure": false,
  "tls": true, "name": "c@d.example", "wires": []}]
JSON
"$folder/venv/bin/python" -u -m aiosmtpd -n -l "127.0.0.1:$port" >"$folder/mails" 2>&1 & pids+=($!)
node "$folder/node_modules/node-red/red.js" --userDir "$folder" --settings "$folder/settings.js" >"$folder/log" 2>&1 & pids+=($!)
for _ in $(seq 120); do
    [ "$(grep -c 'END MESSAGE' "$folder/mails")" -ge 2 ] && break
    sleep 0.5
done
echo "node-red $(node -p "require('$folder/node_modules/node-red/package.json').version")," \
    "node-red-node-email $(node -p "require('$folder/node_modules/node-red-node-email/package.json').version"), Node.js $(node --version)"
python3 - "$folder/mails" <<'PYTHON'
import re
import sys
from pathlib import Path

mails = re.findall(r"-+ MESSAGE FOLLOWS -+\n(.*?)-+ END MESSAGE", Path(sys.argv[1]).read_text(), re.DOTALL)
kinds = {re.search(r"Subject: (\w+)", mail)[1]: sorted({*re.findall(r"text/\w+", mail)}) for mail in mails}
print("content of the mails by their subject:", kinds)
sys.exit(0 if kinds == {"tag": ["text/html", "text/plain"], "blank": ["text/plain"]} else 1)
PYTHON
