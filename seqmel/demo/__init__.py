"""Synthetic card data for `seqmel demo`, with a planted signal of age and gender."""
