-- migrate:up
CREATE TABLE message(id INTEGER PRIMARY KEY, body TEXT);

-- migrate:down
DROP TABLE message;
