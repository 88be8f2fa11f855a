-- What models that read a sample of an index's texts first have made of it.
CREATE TABLE main.sqlembed_corpus(
    model TEXT PRIMARY KEY,     -- with the sample's digest behind it, as the catalog has it
    vectors BLOB NOT NULL       -- float32, little-endian, one after another
);
