"""Tables beside the events: labels, prediction targets, and files of embeddings."""
