-- What an index keeps of its options, beside those that have columns: JSON, only what was given.

ALTER TABLE main.sqlembed_catalog ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
