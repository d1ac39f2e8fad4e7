"""Fine-tuning with LoRA: training loop, checkpoints, contamination checks."""
