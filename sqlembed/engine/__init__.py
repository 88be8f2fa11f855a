"""Text to vector: hash, cache, tokens, batch, model, pooling. No SQL functions, no transport."""
