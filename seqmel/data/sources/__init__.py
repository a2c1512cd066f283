"""Reading: files, data frames and Arrow tables of events, their clients, times and shards."""
