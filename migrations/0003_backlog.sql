-- Rows that wait, each once, with who works on them and what went wrong; and indexes that are to
-- take another's place.

-- What triggers append to the log is absorbed into this by whoever stores vectors, so that the log
-- stays short, and a search asks for a key at a time however much waits.
CREATE TABLE main.sqlembed_backlog(
    index_id INTEGER,
    key INTEGER,
    generation INTEGER NOT NULL,        -- of the newest change that was absorbed
    since INTEGER NOT NULL,             -- seconds since 1970: when it was absorbed first
    due INTEGER DEFAULT 0,              -- not tried before this time; NULL: set aside
    lease INTEGER NOT NULL DEFAULT 0,   -- until this time somebody works on it
    takes INTEGER NOT NULL DEFAULT 0,   -- leases that never came back
    tries INTEGER NOT NULL DEFAULT 0,   -- times that it failed
    error TEXT,                         -- why, the last time
    PRIMARY KEY(index_id, key)
) WITHOUT ROWID;
CREATE INDEX main.sqlembed_backlog_order ON sqlembed_backlog(index_id, generation)
WHERE due IS NOT NULL;

-- How many rows were stored in which second, of the last minute.
CREATE TABLE main.sqlembed_rate(
    index_id INTEGER,
    at INTEGER,                         -- seconds since 1970
    rows INTEGER NOT NULL,
    PRIMARY KEY(index_id, at)
) WITHOUT ROWID;

ALTER TABLE main.sqlembed_catalog ADD COLUMN state TEXT NOT NULL DEFAULT 'live';
ALTER TABLE main.sqlembed_catalog ADD COLUMN replaces INTEGER;
ALTER TABLE main.sqlembed_catalog ADD COLUMN from_generation INTEGER;
ALTER TABLE main.sqlembed_catalog ADD COLUMN codes TEXT;
CREATE UNIQUE INDEX main.sqlembed_catalog_replaces ON sqlembed_catalog(replaces);
