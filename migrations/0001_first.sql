-- The first format: which indexes there are, and which rows wait for their vectors.

CREATE TABLE sqlembed_migration(
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE sqlembed_catalog(
    index_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    source TEXT NOT NULL,           -- JSON: the application's table, its key, the text's expression
    model TEXT NOT NULL,
    space TEXT NOT NULL,            -- fingerprint of the embedding space
    dimension INTEGER NOT NULL,
    mode TEXT NOT NULL,             -- 'deferred' or 'immediate'
    triggers TEXT NOT NULL          -- JSON: the SQL of each trigger by its name
);

-- A log of changes: the row of the application's table with this key changed since its
-- vectors were stored. A key may stand here several times. Appending is all that a writer
-- pays for. An index on the key, AUTOINCREMENT or NOT NULL (for which SQLite opens a statement
-- journal, since the trigger could then fail) would each take a bulk insert past twice its time.
-- In place of AUTOINCREMENT the newest entry is never deleted, so no generation is used twice.
CREATE TABLE sqlembed_queue(
    generation INTEGER PRIMARY KEY,
    index_id INTEGER,               -- 0: done
    key INTEGER
);
