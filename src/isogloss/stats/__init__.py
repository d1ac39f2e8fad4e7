"""Statistics on arrays: no torch, no MLflow, no pandas."""
