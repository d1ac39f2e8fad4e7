"""Statistics on numpy arrays; no torch, no MLflow, no pandas."""
