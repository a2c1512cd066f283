"""Run a trained model: embed, embed as of a time, update incrementally, predict, shard, Spark."""
