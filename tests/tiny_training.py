"""Training of a tiny random model, for the tests of training and of what it leaves."""

from pathlib import Path

from conftest import probe

from isogloss.inference.predict import predict
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.training.loop import Recipe, train

CLOZE = Protocol("cloze")
RECIPE = Recipe(steps=4, batch_size=4, learning_rate=5e-3, rank=2, alpha=4, eval_every=2)


def train_tiny(
    model: LanguageModel, folder: Path, recipe: Recipe = RECIPE
) -> list[dict[str, float]]:
    log: list[dict[str, float]] = []
    data = probe("arb_Arab", "train", 16)
    dev = probe("arb_Arab", "dev", 4)
    train(
        model, data, dev, CLOZE, recipe, folder, task="probe",
        log=lambda step, metrics: log.append({"step": step, **metrics}),
    )  # fmt: skip
    return log


def answers(model: LanguageModel, digest: str | None = None) -> list[list[float]]:
    with model.using(digest):
        found = predict(model, probe("heb_Hebr", "test", 3), CLOZE, "probe")
    return [prediction.choice_logprobs for prediction in found]
