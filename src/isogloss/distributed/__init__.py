"""Several processes that compute one result together: collectives and sharded weights."""
