# Words that the scripts of these tests are written in. What `say` prints is what a test looks at.
say() { echo "@$1=$2"; }
state() { systemctl show edge-agent -p "$1" --value; }
unpack() { rm -rf /srv/$1; mkdir /srv/$1; tar -xzf /lab/$1.tar.gz -C /srv/$1 --strip-components=1; }
installing() {
  unpack $1; sh /srv/$1/install.sh "${@:2}" > /srv/said 2>&1; local code=$?
  cat /srv/said; return $code
}
sender() { mosquitto_pub -h 127.0.0.1 -q 1 -t sensors/p1/pump -m "{\"time\": $1, \"pressure\": $2, \"flow\": 0.8}"; }
alert() {
  local now; now=$(date +%s)
  mosquitto_sub -h 127.0.0.1 -t 'edge/press-7/alerts/#' -C 1 -W 20 > /srv/alert & local watcher=$!
  sleep 0.5; sender $now.$((RANDOM % 900 + 100)) 9.1; sender $((now + 1)) 4.0
  wait $watcher; grep -o '"event":"[a-z]*"' /srv/alert
}
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y "$@" 2>&1 | tail -5; return ${PIPESTATUS[0]}; }
# Every file of the system, but for what changes by itself or by the test.
all_files() {
  find / -xdev -not -path '/proc/*' -not -path '/srv/*' -not -path '/var/log/*' -not -path '/tmp/*' | sort
}
# Lines of that which others write.
not_ours() { grep -v -E '^/(run|var/(lib/(private$|(systemd|mosquitto|dpkg|apt))|cache))'; }
# What has come or gone since all files were written to /srv/before, and what bears our name anywhere.
changes() {
  all_files > /srv/after; comm -3 /srv/before /srv/after | tr -d '\t' | not_ours | head -5
  find / /run -xdev -name '*edge-agent*' -not -path '/srv/*'
}
retained() { mosquitto_sub -h 127.0.0.1 -t 'edge/#' --retained-only -W 2 -F %t | sort | tr '\n' ' '; }
systemctl start mosquitto
