-- The cache's own database file: values by key, oldest use first to go.
CREATE TABLE IF NOT EXISTS space(
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS entry(
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,      -- 256-bit hash of (space, role, text)
    space INTEGER NOT NULL,
    kind TEXT NOT NULL,            -- 'embedding', 'score' or 'tokens'
    value BLOB NOT NULL,           -- little-endian float32; of tokens bytes (engine/late.py)
    used INTEGER NOT NULL          -- seconds since 1970, of the last use
);
CREATE INDEX IF NOT EXISTS entry_used ON entry(used);
-- Token vectors go first, and how much they take is asked often once the file is full.
CREATE INDEX IF NOT EXISTS entry_tokens ON entry(kind, used, length(value)) WHERE kind = 'tokens';
