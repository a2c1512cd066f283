"""Running a trained model: embed, embed as of a moment, update incrementally, predict, shard, Spark."""
