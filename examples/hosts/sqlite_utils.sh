#!/bin/sh
# sqlite-utils: sh examples/hosts/sqlite_utils.sh app.db
set -eu
database=$1
extension=$(sqlembed path)

sqlite-utils insert "$database" sms - --pk id <<'JSON'
[{"id": 1, "body": "Are you coming home for lunch?"},
 {"id": 2, "body": "Your parcel will be delivered tomorrow before noon"},
 {"id": 3, "body": "I left my keys at the office, can you let me in?"}]
JSON

sqlite-utils query "$database" --load-extension "$extension" \
    "SELECT sqlembed_index('sms', 'body') AS indexed"

# No extension is needed to write: the triggers of an index are core SQL.
echo '{"id": 4, "body": "Dinner at 8?"}' | sqlite-utils insert "$database" sms - --pk id

sqlite-utils query "$database" --load-extension "$extension" --table --param asked 'evening meal' "
    SELECT round(k.distance, 2) AS distance, s.body
    FROM knn('sms', :asked, 2) AS k JOIN sms AS s ON s.id = k.id"
