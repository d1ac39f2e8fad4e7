"""Per-item predictions, the table they are stored in, and metrics of them."""
