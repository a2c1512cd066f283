"""The report.

One HTML page about a model, its events and its embeddings, which needs no network.
"""
