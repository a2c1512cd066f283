"""Encoding: from columns of events to category codes and scaled numbers, by DuckDB or as whole columns."""
