"""WorldFlux's own datasets: a directory of sealed shards, which many may read while one appends."""
