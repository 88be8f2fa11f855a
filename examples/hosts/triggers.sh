#!/bin/sh
# Any program may write to an indexed table, and need not know sqlembed: what it wrote is found
# by the next that does.  sh examples/hosts/triggers.sh app.db
set -eu
database=$1
load=".load $(sqlembed path)"

sqlite3 -cmd "$load" "$database" <<'SQL'
CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT);
INSERT INTO sms(body) VALUES
    ('Dinner at 8?'),
    ('The train is an hour late'),
    ('You have won a prize, call now');
SELECT sqlembed_index('sms', 'body') || ' rows indexed';
SQL

# Neither of these loads anything.
sqlite3 "$database" "UPDATE sms SET body = 'The train is on time after all' WHERE id = 2"
/usr/bin/python3 - "$database" <<'PYTHON'
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    db.execute("INSERT INTO sms(body) VALUES ('My keys are at the office, let me in')")
    db.execute("DELETE FROM sms WHERE id = 1")
PYTHON

sqlite3 -cmd "$load" "$database" <<'SQL'
SELECT waiting || ' changes wait for their vectors' FROM sqlembed_status;
SELECT text FROM knn('sms', 'locked out', 1);
SELECT text FROM knn('sms', 'railway', 1);
SELECT 'the dinner is gone' WHERE 1 NOT IN (SELECT id FROM knn('sms', 'evening meal'));
SELECT sqlembed_flush() || ' rows stored';
SQL
