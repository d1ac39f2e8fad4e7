"""Recipe: the hyperparameters that decide the weights of one LoRA adapter."""

from dataclasses import dataclass

WARMUP_FRACTION = 0.1  # of the steps; the learning rate then falls linearly to zero
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training; with model, data and format they decide the adapter."""

    steps: int = 40
    batch_size: int = 16
    learning_rate: float = 5e-4
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str = "all-linear"
    seed: int = 0
    eval_every: int = 20
    patience: int | None = None

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rate rises linearly from zero."""
        return int(WARMUP_FRACTION * self.steps)

    def describe(self, items_per_language: int) -> str:
        """The recipe in words, without the seed: equal for replicates that differ only in it."""
        early = ""
        if self.patience is not None:
            early = f", stopped after {self.patience} dev measurements of {self.eval_every} steps"
            early += " without a better one"
        return (
            f"{self.steps} steps of {self.batch_size} of {items_per_language} items per language, "
            f"learning rate {self.learning_rate:g}, rank {self.rank}, alpha {self.alpha}, "
            f"dropout {self.dropout:g}, {self.target_modules}{early}"
        )
