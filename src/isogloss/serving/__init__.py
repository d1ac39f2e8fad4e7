"""The served model: a fine-tuned adapter that answers over HTTP."""
