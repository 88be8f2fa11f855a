-- migrate:up
-- A copy takes the table's place, and the triggers go with the table that is dropped: the index
-- is dropped before, and made again after. Vectors of the same texts come from the cache.
SELECT sqlembed_drop('message');
CREATE TABLE message_new(id INTEGER PRIMARY KEY, body TEXT NOT NULL DEFAULT '', sender TEXT);
INSERT INTO message_new(id, body) SELECT id, coalesce(body, '') FROM message;
DROP TABLE message;
ALTER TABLE message_new RENAME TO message;
SELECT sqlembed_index('message', 'body', '{"backlog": "later"}');

-- migrate:down
-- A column that the index does not read may come and go without it.
ALTER TABLE message DROP COLUMN sender;
