"""Several processes that compute one result: function calls, collectives and sharded weights."""
