"""Private and undocumented interfaces of dependencies, one module per dependency.

| module | what it relies on | public path behind it |
|---|---|---|
| `torch` | a module's `forward` replaced on the instance | hooks, in a pass of the whole model |
| `transformers` | the attention implementation switched between passes, without a mask | each \
sequence in a row of its own, with the model's own attention |
| `peft` | LoRA variants, the conversion of target modules | peft's own layers; a trial injection |
| `optuna` | heartbeats of a storage | a journal without heartbeats |
| `gguf` | one reader shared by transformers' readings of a file | a reader per reading |
| `mlflow` | a stand-in for the pyfunc flavor | `mlflow.pyfunc.log_model`, which tries the model |
| `scipy` | functions behind two distributions | `scipy.stats`, which takes long to import |
| `torch_build` | the file with torch's version | `torch.version`, which imports torch |

With `ISOGLOSS_PUBLIC_INTERFACES=1` in the environment only the public paths are used: the results
are the same up to rounding, and slower. Set it when a new release of a dependency has changed a
private interface; `tests/compat` names the interface and what breaks. One exception in results: a
journal without heartbeats does not repeat the trial of a killed worker.

`interfaces` states what isogloss uses of a network and of a tokenizer.
"""

import os

VARIABLE = "ISOGLOSS_PUBLIC_INTERFACES"


def public_only() -> bool:
    """Whether only public interfaces of dependencies may be used."""
    return os.environ.get(VARIABLE, "") not in ("", "0")
