-- migrate:up
-- "later": no model runs inside the migration's transaction. The rows wait, and are found meanwhile.
SELECT sqlembed_index('message', 'body', '{"backlog": "later"}');

-- migrate:down
SELECT sqlembed_drop('message');
