"""TRL's GRPOTrainer with Envmill for the rollouts and a real vLLM that samples: the trainer's weights go to
vLLM after each optimizer step.

    pip install ./python trl torch openenv                    # a venv of its own: PyTorch is large
    python examples/python/trl_vllm.py --vllm PATH/bin/vllm   # of another venv, which has a vLLM for the CPU

It makes a tokenizer and a tiny model with random weights (nothing is downloaded), starts `vllm serve` with
it, and `envmill serve` with the environment of `vowels_env.py`, whose policy is that vLLM. Each step is one
job of groups of episodes, which vLLM samples token by token id. Then the trainer saves its weights into a
folder, and the next job begins with them: the service pauses vLLM, has it load them, and lets it go on.

Whether it really has is checked at each step: the trainer's own model must find the tokens as likely as
vLLM has found them when it sampled them. `--curve FILE.svg` draws how the reward has gone.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager

import torch
import trl
from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen2Config,
    Qwen2ForCausalLM,
    utils,
)
from vowels_env import LENGTH, TURNS

import envmill
from envmill.convert.trl import RolloutFunc, env_reward

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

AGENT = f"""
[action.parser.text]
field = "text"
trim = false
[limits]
turn_tokens = {LENGTH}
"""
"""What the model says is the action's text, as it is."""

TOLERANCE = 1e-3
"""Logarithms of probabilities that two programs compute from the same float32 weights differ by less."""


def tokenizer():
    """A token for each byte, and three more."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({word: at for at, word in enumerate(words)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(word, special=True) for word in special])
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=special[0], eos_token=special[2], padding_side="left"
    )
    tokens.chat_template = TEMPLATE
    return tokens


def model(tokens):
    torch.manual_seed(0)
    tiny = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokens), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
            # vLLM 0.32 on the CPU keeps a packed copy of the last layer. One that is tied to the
            # embeddings is not in the folder, and its copy would stay what it was.
            tie_word_embeddings=False, eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id,
            bos_token_id=None,
        )
    )  # fmt: skip
    return tiny.to(torch.float32)


@contextmanager
def inference(program, folder, log):
    """`vllm serve` on the CPU with the folder's model, for as long as it is needed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [program, "serve", folder, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "512", "--max-num-seqs", "64"]
    # So many that no prompt is taken in parts: vLLM 0.32 on the CPU ends if one with a seed is.
    command += ["--max-num-batched-tokens", "8192"]
    # Tokens in and out, and with them the version that sampled each.
    command += ["--generation-config", "vllm", "--enable-scale-out"]
    environment = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        # Without it vLLM neither pauses nor loads weights.
        "VLLM_SERVER_DEV_MODE": "1",
        **os.environ,
    }
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            while not answers(url):
                if process.poll() is not None:
                    sys.exit(f"vLLM did not start: {pathlib.Path(log).read_text()[-2000:]}")
                time.sleep(0.5)
            yield url
        finally:
            # Its engine is a process of its own.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def answers(url):
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def service(directory, inference_url, model_folder):
    """`envmill serve` with the environment and the model that plays it, for as long as it is needed."""
    here = pathlib.Path(__file__).resolve().parent
    config = pathlib.Path(directory) / "cluster.toml"
    config.write_text(
        f'[service]\nlisten = "127.0.0.1:0"\nstore = {json.dumps(f"{directory}/store")}\n'
        '[environments.vowels]\nenv = "openenv-class:vowels_env:Vowels"\n'
        f"python = {json.dumps(sys.executable)}\nreplicas = 1\nsessions = 64\n"
        f'policy = "vllm:{inference_url}"\nagent = "agent.toml"\n'
    )
    config.with_name("agent.toml").write_text(f"model = {json.dumps(str(model_folder))}\n{AGENT}")
    paths = [str(here), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    process = subprocess.Popen(
        [sys.executable, "-m", "envmill", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    try:
        url = process.stdout.readline().strip()
        if not url:
            sys.exit("the service did not start: see above")
        yield url
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


class Checked:
    """A `rollout_func` that compares what vLLM has recorded with what the trainer's model says."""

    def __init__(self, rollout_func):
        self.rollout_func = rollout_func
        self.largest = []
        self.rewards = []
        self.tokens = 0

    def __call__(self, prompts, trainer):
        output = self.rollout_func(prompts, trainer)
        assert set(output["end"]) <= {"completed", "truncated"}, f"not all were played: {output['end']}"
        step = trainer.state.global_step
        assert set(output["model_version"]) == {step}, f"step {step} got {set(output['model_version'])}"
        own = likelihoods(trainer, output["prompt_ids"], output["completion_ids"])
        largest = 0.0
        for row, said, mask in zip(own, output["logprobs"], output["env_mask"], strict=True):
            sampled = torch.tensor(mask).bool()
            largest = max(largest, (row - torch.tensor(said))[sampled].abs().max().item())
            self.tokens += int(sampled.sum())
        self.largest.append(largest)
        self.rewards.append(sum(output["env_reward"]) / len(output["env_reward"]) / TURNS)
        print(
            f"step {step}: reward {self.rewards[-1]:.3f}, largest difference of log-probabilities "
            f"{largest:.1e}",
            flush=True,
        )
        return output


def likelihoods(trainer, prompts, completions):
    """What the trainer's model as it stands says of each token of the completions."""
    asked = trainer.accelerator.unwrap_model(trainer.model)
    rows = [torch.tensor(prompt + said) for prompt, said in zip(prompts, completions, strict=True)]
    # What comes after a row's end is seen by none of its tokens.
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    was_training = asked.training
    asked.eval()
    with torch.no_grad():
        likely = asked(ids[:, :-1]).logits.log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
    asked.train(was_training)
    starts = [len(prompt) - 1 for prompt in prompts]
    return [
        row[start : start + len(said)]
        for row, start, said in zip(likely, starts, completions, strict=True)
    ]


def draw(path, rewards, what):
    """A picture of the rewards."""
    width, height, left, top = 640, 320, 56, 40
    across, down = width - left - 24, height - top - 48

    def at(step, reward):
        return f"{left + across * step / max(len(rewards) - 1, 1):.1f},{top + down * (1 - reward):.1f}"

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="22" font-size="14">{what}</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = top + down * (1 - share)
        lines.append(f'<path d="M{left} {y:.1f}h{across}" stroke="#ddd"/>')
        lines.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{share:g}</text>')
    for step in range(0, len(rewards), max(len(rewards) // 6, 1)):
        x = at(step, 0).split(",")[0]
        lines.append(f'<text x="{x}" y="{top + down + 18}" text-anchor="middle">{step}</text>')
    lines.append(f'<text x="{left + across / 2}" y="{height - 10}" text-anchor="middle">optimizer step</text>')
    points = " ".join(at(step, reward) for step, reward in enumerate(rewards))
    lines.append(f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="2"/>')
    pathlib.Path(path).write_text("\n".join([*lines, "</svg>", ""]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", default="vllm", help="the program of a vLLM that runs here")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps")
    parser.add_argument("--prompts", type=int, default=4, help="prompts of a step")
    parser.add_argument("--generations", type=int, default=16, help="episodes for each prompt")
    parser.add_argument("--curve", help="draw the rewards into this file (SVG)")
    given = parser.parse_args()
    # Whoever ends this program ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Weights are written at each step.
    utils.logging.disable_progress_bar()
    tokens = tokenizer()
    tiny = model(tokens)
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory) / "model"
        tiny.save_pretrained(folder)
        tokens.save_pretrained(folder)
        with (
            inference(given.vllm, folder, f"{directory}/vllm.log") as inference_url,
            service(directory, inference_url, folder) as url,
            envmill.Client(url) as client,
        ):
            rollout_func = Checked(
                RolloutFunc(
                    client, {"name": "grpo", "environment": "vowels"}, weights=f"{directory}/weights"
                )
            )
            began = time.monotonic()
            train(given, tokens, tiny, rollout_func, directory)
            took = time.monotonic() - began
    rewards = rollout_func.rewards
    last = sum(rewards[-5:]) / len(rewards[-5:])
    episodes = given.steps * given.prompts * given.generations
    print(
        f"{given.steps} optimizer steps on {episodes} episodes in {took:.0f} s: reward "
        f"{rewards[0]:.3f}, and {last:.3f} at the end; {rollout_func.tokens} tokens that vLLM has sampled were "
        f"as likely to the trainer's model, within {max(rollout_func.largest):.1e}"
    )
    if given.curve:
        draw(given.curve, rewards, "Share of vowels: TRL's GRPOTrainer, Envmill, vLLM")
    assert len(rewards) == given.steps
    assert max(rollout_func.largest) < TOLERANCE, "vLLM has sampled from other weights"


def train(given, tokens, tiny, rollout_func, directory):
    trainer = trl.GRPOTrainer(
        model=tiny,
        args=trl.GRPOConfig(
            output_dir=f"{directory}/trainer", max_steps=given.steps, learning_rate=3e-3,
            lr_scheduler_type="constant", num_generations=given.generations,
            per_device_train_batch_size=given.prompts * given.generations,
            logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, bf16=False,
            disable_tqdm=True,
        ),
        # What is played is the environment's matter: each prompt is another seed of it.
        train_dataset=Dataset.from_list([{"prompt": f"game {number}"} for number in range(1000)]),
        processing_class=tokens,
        reward_funcs=env_reward,
        rollout_func=rollout_func,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()


if __name__ == "__main__":
    main()
