"""Training of a tiny random model, for tests of training and of the adapters it writes."""

from pathlib import Path

from conftest import probe

from isogloss.inference.predict import predict
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.training.loop import TrainingJob, train
from isogloss.training.recipe import Recipe

CLOZE = Protocol("cloze")
RECIPE = Recipe(steps=4, batch_size=4, learning_rate=5e-3, rank=2, alpha=4, eval_every=2)


def tiny_job(folder: Path, recipe: Recipe = RECIPE, **options: object) -> TrainingJob:
    """A training on 16 probe items in Arabic, with 4 dev items."""
    train_items, dev_items = probe("arb_Arab", "train", 16), probe("arb_Arab", "dev", 4)
    return TrainingJob("probe", train_items, dev_items, CLOZE, recipe, folder, **options)


def train_tiny(
    model: LanguageModel, folder: Path, recipe: Recipe = RECIPE
) -> list[dict[str, float]]:
    """Train and return the logged metrics, each with its step."""
    log: list[dict[str, float]] = []
    train(
        model,
        tiny_job(folder, recipe),
        log=lambda step, metrics: log.append({"step": step, **metrics}),
    )
    return log


def answers(model: LanguageModel, digest: str | None = None) -> list[list[float]]:
    """Scores of three Hebrew items with the adapter of that digest, or without one."""
    with model.using(digest):
        predictions = predict(model, probe("heb_Hebr", "test", 3), CLOZE, "probe")
    return [prediction.choice_logprobs for prediction in predictions]
