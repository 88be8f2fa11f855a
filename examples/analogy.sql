-- Arithmetic with words, in the sqlite3 shell. From the repository's directory:
--     sqlembed pull glove-6b-50d
--     sqlite3 words.db < examples/analogy.sql
-- The words are GloVe's own most frequent ones, some 28,000.
.bail on
.read '|echo .load $(sqlembed path)'

CREATE TABLE words(rank INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
.import --csv --skip 1 '|python3 examples/words.py' words
SELECT sqlembed_index('words', 'word', '{"model": "glove-6b-50d", "words": null}') > 25000 AS indexed;

.mode column
-- What is to a as b is to c: a - b + c. The three themselves are nearest to that, so a few more
-- are asked for, and these left out.
CREATE TEMP TABLE analogy(a TEXT, b TEXT, c TEXT);
INSERT INTO analogy VALUES
    ('king', 'man', 'woman'), ('paris', 'france', 'italy'), ('walking', 'walk', 'swim');
WITH asked AS MATERIALIZED (
    SELECT a, b, c, vec_add(vec_sub(embed(a, 'glove-6b-50d'), embed(b, 'glove-6b-50d')),
                            embed(c, 'glove-6b-50d')) AS vector
    FROM analogy
),
near AS MATERIALIZED (
    SELECT a, b, c, text AS word, distance,
           row_number() OVER (PARTITION BY a, b, c ORDER BY distance) AS place
    FROM asked, knn('words', vector, 8)
    WHERE text NOT IN (a, b, c)
)
SELECT a || ' - ' || b || ' + ' || c AS analogy, place, word, round(distance, 3) AS distance
FROM near WHERE place <= 3 ORDER BY analogy, place;
