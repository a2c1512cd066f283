"""Encoding: columns of events to category codes and scaled numbers, by DuckDB or by column."""
