"""`seqmel report`: one HTML page to look at a model, its events and its embeddings with; it needs no network."""
