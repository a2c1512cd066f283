"""Fitting: infer the schema, then fit the vocabulary (category codes, numeric scales) once."""
