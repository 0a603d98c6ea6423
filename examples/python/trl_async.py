"""TRL's AsyncGRPOTrainer with Envmill for the rollouts and a real vLLM that samples: episodes are played while
the trainer learns, and go on while the weights are exchanged.

    pip install ./python trl torch openenv                     # a venv of its own: PyTorch is large
    python examples/python/trl_async.py --vllm PATH/bin/vllm   # of another venv, which has a vLLM for the CPU

Model, environment, vLLM and service are those of `trl_vllm.py`. The trainer's worker and its way of handing
weights over are Envmill's: weights go through a folder, and `publish_version` has vLLM pause, load them, and
go on.

The trainer wants a GPU for two things: the kernel of its attention, and a figure of how busy the GPU is. Here
plain PyTorch stands in for the first, and the second is left out (`without_gpu`), so that all else of it runs
on the CPU.
"""

import argparse
import itertools
import math
import pathlib
import signal
import sys
import tempfile
import types

import torch
from datasets import Dataset
from transformers import PrinterCallback, utils
from trl.experimental.async_grpo import (
    AsyncGRPOConfig,
    AsyncGRPOTrainer,
    async_grpo_trainer,
    packing,
)
from trl_vllm import TURNS, inference, model, service, tokenizer

import envmill
from envmill.convert.trl_worker import RolloutWorker, WeightFolders

STALENESS_MAX = 4
"""The trainer drops samples of weights that are so many versions old."""


def attention(query, key, value, starts, key_starts, _longest, _longest_key, **given):
    """What `flash_attn_varlen_func` computes: of each stretch of queries over its stretch of keys."""
    parts = []
    for (start, end), (first, last) in zip(
        itertools.pairwise(starts.tolist()), itertools.pairwise(key_starts.tolist()), strict=True
    ):
        # The last query sees the last key.
        seen = torch.ones(end - start, last - first, dtype=torch.bool)
        seen = seen.tril(diagonal=(last - first) - (end - start))
        queries, keys, values = (
            it.transpose(0, 1) for it in (query[start:end], key[first:last], value[first:last])
        )
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(
                queries[None], keys[None], values[None], attn_mask=seen, scale=given["softmax_scale"],
                enable_gqa=True,
            )[0].transpose(0, 1)
        )  # fmt: skip
    return torch.cat(parts)


def without_gpu():
    """Lets the trainer do without."""
    packing._flash_attn = lambda: types.SimpleNamespace(flash_attn_varlen_func=attention)
    async_grpo_trainer.get_peak_flops_per_device = lambda *_: None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", default="vllm", help="the program of a vLLM that runs here")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps")
    given = parser.parse_args()
    # Whoever ends this program ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    utils.logging.disable_progress_bar()
    without_gpu()
    tokens = tokenizer()
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory) / "model"
        model(tokens).save_pretrained(folder)
        tokens.save_pretrained(folder)
        with (
            inference(given.vllm, folder, f"{directory}/vllm.log") as inference_url,
            service(directory, inference_url, folder) as url,
            envmill.Client(url) as client,
        ):
            history = train(given, tokens, client, inference_url, directory)
    for number, entry in enumerate(history, 1):
        print(f"step {number}: loss {entry['loss']:+.4f}, reward {entry['reward'] / TURNS:.3f}")
    rewards = [entry["reward"] / TURNS for entry in history]
    assert len(rewards) == given.steps
    assert all(math.isfinite(entry["loss"]) for entry in history)
    ends = [sum(some) / len(some) for some in (rewards[:3], rewards[-3:])]
    print(f"{given.steps} optimizer steps: reward {ends[0]:.3f}, and {ends[1]:.3f} at the end")


def train(given, tokens, client, inference_url, directory):
    weights = WeightFolders(f"{directory}/weights")
    # Episodes pause when so many wait for the trainer: what it gets is of weights that are not old.
    job = {
        "environment": "vowels",
        "groups": 256,
        "group_rules": {"samples": 16},
        "delivery": {"waiting_max": 64},
    }
    jobs = ({**job, "name": f"async-{number}", "seed": 256 * number} for number in itertools.count())
    worker = RolloutWorker(client, jobs, weights=weights, samples_max=32)
    trainer = AsyncGRPOTrainer(
        model=f"{directory}/model",
        args=AsyncGRPOConfig(
            output_dir=f"{directory}/trainer", max_steps=given.steps, learning_rate=3e-3,
            lr_scheduler_type="constant", num_generations=16, per_device_train_batch_size=64,
            token_budget=0, max_staleness=STALENESS_MAX, vllm_server_base_url=inference_url,
            dtype="float32", logging_steps=1, report_to="none", save_strategy="no", use_cpu=True,
            bf16=False, gradient_checkpointing=False, disable_tqdm=True,
        ),
        # What is played is the environment's matter: the worker takes nothing from here.
        train_dataset=Dataset.from_list([{"prompt": "sing"}] * 64),
        processing_class=tokens,
        rollout_worker=worker,
        weight_transfer=weights,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [entry for entry in trainer.state.log_history if "reward" in entry]


if __name__ == "__main__":
    main()
