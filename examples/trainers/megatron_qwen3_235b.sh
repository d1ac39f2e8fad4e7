#!/bin/bash
# LoRA on Qwen3-235B-A22B with Megatron of ms-swift 4.6, on two nodes of eight GPUs with 80 GB.
#
#   engine:
#     kind: command
#     train: >-
#       srun --nodes=2 --ntasks-per-node=1 bash examples/trainers/megatron_qwen3_235b.sh
#       {model} {train} {output} {steps} {batch_size} {learning_rate} {rank} {alpha} {seed}
#
# Runs once on each node; the folders of {train}, {output} and {model} are shared by all nodes.
set -euo pipefail
MODEL=$1 TRAIN=$2 OUTPUT=$3 STEPS=$4 BATCH=$5 RATE=$6 RANK=$7 ALPHA=$8 SEED=$9
export NNODES=$SLURM_NNODES NODE_RANK=$SLURM_NODEID NPROC_PER_NODE=8 MASTER_PORT=29500
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
# The template `dummy` adds nothing to a prompt, in which isogloss has rendered the model's own.
# Attention alone: transformers 5 has no place for LoRA on single experts. No router either.
exec megatron sft \
    --model "$MODEL" \
    --save_safetensors true \
    --merge_lora false \
    --dataset "$TRAIN" \
    --template dummy \
    --loss_scale default \
    --load_from_cache_file false \
    --split_dataset_ratio 0 \
    --max_length 4096 \
    --truncation_strategy delete \
    --packing false \
    --padding_free true \
    --tuner_type lora \
    --target_modules linear_qkv linear_proj \
    --lora_rank "$RANK" \
    --lora_alpha "$ALPHA" \
    --lora_dropout 0 \
    --train_iters "$STEPS" \
    --micro_batch_size 1 \
    --global_batch_size "$BATCH" \
    --lr "$RATE" \
    --min_lr 0 \
    --lr_decay_style linear \
    --lr_warmup_fraction 0.1 \
    --weight_decay 0 \
    --adam_beta2 0.999 \
    --clip_grad 1.0 \
    --seed "$SEED" \
    --tensor_model_parallel_size 2 \
    --pipeline_model_parallel_size 2 \
    --expert_model_parallel_size 8 \
    --expert_tensor_parallel_size 1 \
    --sequence_parallel true \
    --moe_permute_fusion true \
    --moe_grouped_gemm true \
    --moe_shared_expert_overlap true \
    --moe_aux_loss_coeff 0 \
    --recompute_granularity full \
    --recompute_method uniform \
    --recompute_num_layers 1 \
    --attention_backend flash \
    --cross_entropy_loss_fusion true \
    --bf16 true \
    --finetune true \
    --no_save_optim true \
    --no_save_rng true \
    --save_steps "$STEPS" \
    --add_version false \
    --logging_steps 1 \
    --output_dir "$OUTPUT"
