"""Training: batches, one thin LightningModule, validation clients, resumable checkpoints."""
