-- Codes of the stored vectors in blocks, in place of vec0's tables, which the next flush drops.

CREATE TABLE main.sqlembed_block(
    block INTEGER PRIMARY KEY,  -- drawn by lot, and never another's: what is remembered of it stays true
    index_id INTEGER NOT NULL,
    first INTEGER NOT NULL,     -- the lowest and the highest number of its chunks
    last INTEGER NOT NULL,
    count INTEGER NOT NULL,
    codes BLOB NOT NULL
);
CREATE INDEX main.sqlembed_block_order ON sqlembed_block(index_id, first, last, count);

-- Drawn anew by whatever changes the stored vectors of an index.
ALTER TABLE main.sqlembed_catalog ADD COLUMN stamp INTEGER;

-- An older sqlembed that is in the middle of a flush must not store rows without a stamp. It does so in
-- one transaction with an entry here, so that fails; ours are in another table now.
CREATE TRIGGER main.sqlembed_rate_refused BEFORE INSERT ON sqlembed_rate BEGIN
    SELECT RAISE(ABORT, 'the database has a newer format of sqlembed''s tables: upgrade sqlembed');
END;
CREATE TABLE main.sqlembed_pace(
    index_id INTEGER,
    at INTEGER,                         -- seconds since 1970
    rows INTEGER NOT NULL,              -- that were stored in that second, of the last minute
    PRIMARY KEY(index_id, at)
) WITHOUT ROWID;
