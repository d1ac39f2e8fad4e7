"""The reference scorer: one sequence at a time, full logits, nothing shared or batched.

`scoring.score` must agree with it; tests hold it to that. It is slow and easy to check.
"""

import torch

from isogloss.inference.scoring import ItemScores
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import prefix_tokens


@torch.inference_mode()
def reference_scores(model: LanguageModel, prompt: Prompt, *, chat: bool = False) -> ItemScores:
    """Return the log-likelihood (nats) of each continuation, and which one greedy decoding gives.

    Context and continuation are tokenised as one text. All continuations start after the tokens
    that these texts and the context have in common. The active adapter is used.
    """
    prefix = prefix_tokens(model.tokenizer, chat)
    texts = [prompt.context, *(prompt.context + text for text in prompt.continuations)]
    ids = [prefix + _tokens(model, text) for text in texts]
    start = next(
        (at for at, tokens in enumerate(zip(*ids, strict=False)) if len(set(tokens)) > 1),
        min(map(len, ids)),
    )
    loglikelihoods = []
    greedy, longest = -1, 0
    for choice, choice_ids in enumerate(ids[1:]):
        tokens = torch.tensor(choice_ids)
        with model.autocast():
            logits_1TV = model.network(input_ids=tokens[None].to(model.device)).logits
        logprobs_TV = logits_1TV[0, start - 1 : -1].float().cpu().log_softmax(-1)
        targets_T = tokens[start:]
        logprob_T = logprobs_TV.gather(-1, targets_T[:, None])[:, 0]
        loglikelihoods.append(float(logprob_T.double().sum()))
        # If one option begins another ("1" and "10"), greedy decoding gives the longer.
        if bool((logprobs_TV.argmax(-1) == targets_T).all()) and len(tokens) > longest:
            greedy, longest = choice, len(tokens)
    return ItemScores(tuple(loglikelihoods), greedy)


def _tokens(model: LanguageModel, text: str) -> list[int]:
    return model.tokenizer([text], add_special_tokens=False).input_ids[0]
