"""seqmel: embeddings of event sequences, for anything that learns from clients."""

__version__ = "0.1.0"
