"""Synthetic card data for `seqmel demo`: clients and transactions with a planted age and gender signal."""
