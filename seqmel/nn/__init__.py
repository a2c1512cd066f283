"""Event encoder -> sequence encoder -> pooling: from a ragged batch to one vector a sequence."""
