"""Fine-tuning on labels: a prediction head per target on top of a trained encoder."""
