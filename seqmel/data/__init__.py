"""The data path: read events, fit the vocabulary, prepare sequences, draw views, gather batches."""
