"""TRL's GRPOTrainer on an OpenEnv environment, with Envmill doing the rollouts: the trainer's own model
answers the turns, whole batches of them, through `rollout_func`.

    pip install ./python trl torch openenv  # a venv of its own: PyTorch is large
    python examples/python/trl_grpo.py

It starts `envmill serve` with the environment of `letters_env.py`, makes a tokenizer and a tiny model with
random weights (nothing is downloaded), and trains some steps on the CPU, in about a minute. Each step is
one job: a group of episodes for each prompt, all of them in flight together.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import torch
import trl
from datasets import Dataset
from letters_env import LETTERS
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, PrinterCallback, Qwen3Config, Qwen3ForCausalLM

import envmill
from envmill.convert.trl import RolloutFunc, env_reward

ANSWER = 2
"""The most tokens of an answer, its end included."""


@contextmanager
def service():
    """`envmill serve` with the environment, for as long as it is needed."""
    here = pathlib.Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "cluster.toml"
        config.write_text(
            f'[service]\nlisten = "127.0.0.1:0"\nstore = {json.dumps(directory + "/store")}\n'
            '[environments.letters]\nenv = "openenv-class:letters_env:Letters"\n'
            f"python = {json.dumps(sys.executable)}\nreplicas = 1\nsessions = 64\n"
        )
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


def tokenizer():
    """A token for each letter."""
    words = ["<pad>", "<end>", "?", *LETTERS]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", padding_side="left"
    )


def model(tokens):
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokens), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=64,
            eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id, bos_token_id=None,
        )
    )  # fmt: skip


class Answering:
    """Answers turns with the trainer's model as it stands."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.said = {}

    def __call__(self, turns, trainer):
        prompts = []
        for turn in turns:
            # An attempt that begins anew begins with nothing said.
            before = self.said[turn.episode] if turn.step else []
            prompts.append([*before, *self.tokens(turn.observation["text"]).input_ids])
        sampled, logprobs = self.sample(prompts, trainer)
        for turn, prompt, ids in zip(turns, prompts, sampled, strict=True):
            self.said[turn.episode] = prompt + ids
        texts = self.tokens.batch_decode(sampled, skip_special_tokens=True)
        return {
            "actions": [{"text": text.replace(" ", "")} for text in texts],
            "prompt_token_ids": prompts,
            "token_ids": sampled,
            "logprobs": logprobs,
            "versions": envmill.Version(trainer.state.global_step),
        }

    def sample(self, prompts, trainer):
        """What the model says to each prompt, to its end, and how likely each token was."""
        batch = self.tokens.pad({"input_ids": prompts}, return_tensors="pt").to(trainer.accelerator.device)
        asked = trainer.accelerator.unwrap_model(trainer.model)
        was_training = asked.training
        asked.eval()
        with torch.no_grad():
            said = asked.generate(
                **batch, max_new_tokens=ANSWER, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
        asked.train(was_training)
        ids = said.sequences[:, batch["input_ids"].shape[1] :]
        likely = torch.stack(said.logits, 1).log_softmax(-1).gather(2, ids.unsqueeze(2)).squeeze(2)
        ends = (ids == self.tokens.eos_token_id).cumsum(1)
        lengths = ((ends - (ids == self.tokens.eos_token_id).int()) == 0).sum(1).tolist()
        each = list(zip(ids.tolist(), likely.tolist(), lengths, strict=True))
        return [row[:length] for row, _, length in each], [row[:length] for _, row, length in each]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=15, help="optimizer steps")
    parser.add_argument("--prompts", type=int, default=8, help="prompts of a step")
    parser.add_argument("--generations", type=int, default=8, help="episodes for each prompt")
    given = parser.parse_args()
    tokens = tokenizer()
    tiny = model(tokens)
    before = [weights.detach().clone() for weights in tiny.parameters()]
    with service() as url, envmill.Client(url) as client:
        trainer = trl.GRPOTrainer(
            model=tiny,
            args=trl.GRPOConfig(
                output_dir=tempfile.mkdtemp(), max_steps=given.steps, learning_rate=3e-3,
                lr_scheduler_type="constant", num_generations=given.generations,
                per_device_train_batch_size=given.prompts * given.generations,
                logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, bf16=False,
                disable_tqdm=True,
            ),
            # What is played is the environment's matter: each prompt is another seed of it.
            train_dataset=Dataset.from_list([{"prompt": f"game {number}"} for number in range(1000)]),
            processing_class=tokens,
            reward_funcs=env_reward,
            rollout_func=RolloutFunc(
                client, {"name": "grpo", "environment": "letters"}, Answering(tokens),
                blank=tokens.pad_token_id,
            ),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        jobs = client.status()["jobs"]
    steps = [entry for entry in trainer.state.log_history if "reward" in entry]
    for number, entry in enumerate(steps, 1):
        print(f"step {number}: loss {entry['loss']:+.4f}, reward {entry['reward']:.3f} of 3")
    assert len(steps) == given.steps
    assert all(math.isfinite(entry["loss"]) for entry in steps)
    assert all(0 <= entry["reward"] <= 3 for entry in steps), "not every episode has a reward"
    changed = [not torch.equal(old, new) for old, new in zip(before, tiny.parameters(), strict=True)]
    assert all(changed), "the weights are what they were"
    left = [job["progress"]["job_id"] for job in jobs if job["progress"]["waiting"]]
    assert not left, f"not acknowledged: {left}"
    episodes = given.steps * given.prompts * given.generations
    print(f"{given.steps} optimizer steps on {episodes} episodes of {url}")


if __name__ == "__main__":
    main()
