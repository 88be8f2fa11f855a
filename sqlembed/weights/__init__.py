"""Model files: what a model is (manifest), getting it (pull), and making a GGUF of it (convert)."""
