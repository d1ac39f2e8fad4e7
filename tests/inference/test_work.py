"""Work: tokens of shared prompts once, positions before the tokens of choices."""

from isogloss.inference.work import scoring_work, training_work
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.tasks import Item


def item(number: int, passage: str, answer: int) -> Item:
    return Item(
        item_id=str(number),
        passage_id=passage,
        language="eng_Latn",
        passage="p",
        question="q",
        options=("a", "b"),
        answer=answer,
    )


def test_work_is_that_of_the_tree_of_each_passage() -> None:
    items = [item(1, "x", 0), item(2, "x", 1), item(3, "y", 0)]
    encoded = [
        EncodedPrompt(([1, 2, 3, 7], [1, 2, 3, 8]), (3, 3)),
        EncodedPrompt(([1, 2, 4, 5, 7], [1, 2, 4, 5, 8, 9]), (4, 4)),
        EncodedPrompt(([1, 2, 7], [1, 2, 8]), (2, 2)),
    ]
    work = scoring_work(items, encoded)
    # Passage x has nodes 1 2 3, 4 5, and 8 before the 9; passage y has 1 2 once more.
    assert work.tokens == 6 + 2
    assert work.positions == work.last == 4
    assert work.keys == ((1 + 2 + 3) + (3 + 4 + 5) + (1 + 2)) / 8
    trained = training_work(items, encoded)
    assert (trained.tokens, trained.positions, trained.last) == (8, 4, None)
    assert scoring_work([], []).tokens == 0
