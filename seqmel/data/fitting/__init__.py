"""Fitting: the schema is inferred and the vocabulary (category codes, numeric scales) is fitted once."""
