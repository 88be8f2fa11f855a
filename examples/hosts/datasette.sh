#!/bin/sh
# Datasette: sh examples/hosts/datasette.sh app.db
set -eu
here=$(dirname "$0")
database=$1
socket=$database.sock

sqlite3 "$database" <<'SQL'
CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT);
INSERT INTO sms(body) VALUES
    ('Are you coming home for lunch?'),
    ('Your parcel will be delivered tomorrow before noon'),
    ('I left my keys at the office, can you let me in?');
SQL

datasette serve "$database" --load-extension "$(sqlembed path)" --metadata "$here/datasette.yaml" \
    --uds "$socket" >"$database.log" 2>&1 &
trap 'kill $!; wait' EXIT

ask() {
    curl --silent --fail --unix-socket "$socket" --write-out '\n' "$@"
}
until ask http://localhost/ >/dev/null; do kill -0 $!; sleep 0.1; done

ask http://localhost/app/index?_json=1 --data ''
ask http://localhost/app/add?_json=1 --data-urlencode 'body=Dinner at 8?'
ask 'http://localhost/app/nearest.json?question=evening+meal&_shape=array&_nl=on'
