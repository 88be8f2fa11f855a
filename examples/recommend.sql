-- Recommend by what somebody liked, in the sqlite3 shell. From the repository's directory:
--     sqlite3 library.db < examples/recommend.sql
-- The items are the modules of Python's standard library, by what each says of itself.
.bail on
.read '|echo .load $(sqlembed path)'

CREATE TABLE module(name TEXT PRIMARY KEY, about TEXT);
.import --csv --skip 1 '|python3 examples/modules.py' module
SELECT sqlembed_index('module', 'about') > 100 AS indexed;

CREATE TABLE liked(name TEXT PRIMARY KEY);
INSERT INTO liked VALUES ('bz2'), ('zipfile'), ('poplib');
CREATE TABLE seen(name TEXT PRIMARY KEY);
INSERT INTO seen VALUES ('gzip');

.mode column --wrap 80
-- A user is the mean of what they liked; embed() finds these vectors in its cache. Where texts are
-- longer than the model reads, take the mean over their chunks:
--     SELECT vec_mean(embed(text)) FROM liked JOIN module USING (name), chunks(about)
-- What they know is left out by `id IN (the others)`, which applies before the five are counted off;
-- `id NOT IN (...)` would apply after that, and leave fewer.
WITH near AS MATERIALIZED (
    SELECT id, distance, text
    FROM knn('module',
             (SELECT vec_mean(embed(about)) FROM liked JOIN module USING (name)),
             5)
    WHERE id IN (SELECT name FROM module
                 EXCEPT SELECT name FROM liked
                 EXCEPT SELECT name FROM seen)
)
SELECT id AS recommended, liked.name AS because_of,
       round(max(similarity(embed(module.about), embed(text))), 2) AS likeness, text AS about
FROM near, liked JOIN module USING (name)
GROUP BY id ORDER BY distance;

-- One more is liked: nothing has to be trained anew.
INSERT INTO liked VALUES ('smtplib');
SELECT id AS recommended, text AS about
FROM knn('module', (SELECT vec_mean(embed(about)) FROM liked JOIN module USING (name)), 3)
WHERE id IN (SELECT name FROM module
             EXCEPT SELECT name FROM liked
             EXCEPT SELECT name FROM seen)
ORDER BY distance;
