"""Python's own sqlite3 module: /usr/bin/python3 examples/hosts/python.py app.db "$(sqlembed path)".

Debian's Python can load extensions; one that was built without them lacks enable_load_extension.
"""

import sqlite3
import sys

TEXTS = (
    "Are you coming home for lunch?",
    "Your parcel will be delivered tomorrow before noon",
    "I left my keys at the office, can you let me in?",
)
NEAREST = """
SELECT k.distance, s.body
FROM knn('sms', ?, 2) AS k JOIN sms AS s ON s.id = k.id"""

_, database, extension = sys.argv
db = sqlite3.connect(database)
db.enable_load_extension(True)
db.load_extension(extension)
db.enable_load_extension(False)

db.execute("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
db.executemany("INSERT INTO sms(body) VALUES (?)", [(text,) for text in TEXTS])
db.commit()

(indexed,) = db.execute("SELECT sqlembed_index('sms', 'body')").fetchone()
print(f"{indexed} rows indexed")

# Found at once, and in the open transaction: a search embeds what still waits for its vector.
db.execute("INSERT INTO sms(body) VALUES ('Dinner at 8?')")
for distance, body in db.execute(NEAREST, ("evening meal",)):
    print(f"{distance:.2f}  {body}")
db.commit()
