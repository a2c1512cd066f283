"""Encoded sequences, one row per client, memory-mapped or in memory, and batches of them."""
