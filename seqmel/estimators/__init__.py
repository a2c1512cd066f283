"""The scikit-learn face: event sequences that splitters cut by client, and transformers that turn them into columns."""
