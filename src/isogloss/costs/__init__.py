"""What a model costs: operations, memory and time, from its shape and the work alone."""
