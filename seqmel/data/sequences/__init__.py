"""Encoded sequences: one row per client, memory-mapped or in memory, and the batches gathered from them."""
