"""Training: batches, one thin LightningModule, validation on held-out clients, checkpoints that survive a kill."""
