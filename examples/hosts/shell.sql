-- The sqlite3 shell:  sqlite3 app.db < examples/hosts/shell.sql
.bail on
.read '|echo .load $(sqlembed path)'

CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT);
INSERT INTO sms(body) VALUES
    ('Are you coming home for lunch?'),
    ('Your parcel will be delivered tomorrow before noon'),
    ('I left my keys at the office, can you let me in?');

SELECT sqlembed_index('sms', 'body') AS indexed;

-- Found at once: a search embeds what still waits for its vector.
INSERT INTO sms(body) VALUES ('Dinner at 8?');

.mode column
SELECT round(k.distance, 2) AS distance, s.body
FROM knn('sms', 'evening meal', 2) AS k JOIN sms AS s ON s.id = k.id;
