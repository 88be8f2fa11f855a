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

-- A row of the application's table that changed since its vectors were stored.
-- The generation is new with every change: milliseconds since 1970, then random bits.
CREATE TABLE sqlembed_queue(
    index_id INTEGER NOT NULL,
    key INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (index_id, key)
) WITHOUT ROWID;
