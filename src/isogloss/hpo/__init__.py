"""Hyperparameter search: search space, Optuna storage and pruner, trials, results."""
