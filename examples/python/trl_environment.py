"""TRL's GRPOTrainer with an `environment_factory` on any OpenEnv server: what runs against an environment's
own server runs against Envmill's, or a gateway of several, by another URL and nothing else.

    pip install trl openenv          # a venv of its own: PyTorch is large
    envmill env serve openenv-class:bench_env:BenchEnv --port 8000
    python trl_environment.py http://127.0.0.1:8000

The model is tiny and its weights are random, so it is first shown, a few hundred times, what a call of the
environment's tool looks like; a CPU does all of it in about a minute. The tokenizer is made here, too:
nothing is downloaded.
"""

import argparse
import pathlib
import tempfile

import torch
import trl
from datasets import Dataset
from openenv.core import GenericEnvClient
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import get_json_schema

PROMPT = [{"role": "user", "content": "Ask the environment for a payload."}]
CALL = '<tool_call>\n{"name": "ask", "arguments": {"payload_bytes": 3}}\n</tool_call>'


class Bench:
    """The environment as the trainer has it: one session of a server for each generation."""

    url = ""

    def __init__(self):
        self.client = GenericEnvClient(base_url=self.url).sync()
        self.client.connect()
        self.steps = 0

    def reset(self, **kwargs):
        self.client.reset(seed=1)
        self.steps = 0

    def ask(self, payload_bytes: int) -> str:
        """
        Asks the environment for a payload.

        Args:
            payload_bytes: How long the payload is to be.

        Returns:
            The payload.
        """
        self.steps += 1
        return self.client.step({"payload_bytes": payload_bytes}).observation["payload"]

    def get_reward(self) -> float:
        # As the environment's own state has it.
        return float(self.client.state()["step_count"])


def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={each: at for at, each in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made.add_tokens(
        [
            AddedToken(word, normalized=False)
            for word in ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
                         "<think>", "</think>")
        ]
    )  # fmt: skip
    found = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )
    templates = pathlib.Path(trl.__file__).parent / "chat_templates"
    found.chat_template = (templates / "qwen3.jinja").read_text()
    return found


def taught(tokens, rounds):
    """A tiny model that has seen what a call is."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokens), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=4096,
        eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    tools = [get_json_schema(Bench.ask)]
    lines = []
    for said, answer in (
        (PROMPT, CALL),
        ([*PROMPT, {"role": "assistant", "content": CALL}, {"role": "tool", "content": "xxx"}], "Done."),
    ):
        text = tokens.apply_chat_template(
            said, tools=tools, add_generation_prompt=True, tokenize=False, enable_thinking=False
        )
        prompt = tokens(text, add_special_tokens=False).input_ids
        reply = tokens(answer + "<|im_end|>", add_special_tokens=False).input_ids
        ids = torch.tensor([prompt + reply])
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        lines.append((ids, labels))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for round in range(rounds):
        loss = sum(model(input_ids=ids, labels=labels).loss for ids, labels in lines)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.02:
            break
    print(f"taught in {round + 1} rounds, loss {loss.item():.3f}")
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="of an OpenEnv server of testing/python/servers/bench_env.py")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps")
    parser.add_argument("--generations", type=int, default=8, help="generations of a prompt")
    parser.add_argument("--rounds", type=int, default=400, help="how often the model is shown a call, at most")
    given = parser.parse_args()
    Bench.url = given.url
    tokens = tokenizer()
    trainer = trl.GRPOTrainer(
        model=taught(tokens, given.rounds),
        args=trl.GRPOConfig(
            output_dir=tempfile.mkdtemp(), max_steps=given.steps, report_to="none", use_cpu=True,
            per_device_train_batch_size=given.generations, num_generations=given.generations,
            max_completion_length=256, max_tool_calling_iterations=2, logging_steps=1, bf16=False,
            save_strategy="no", chat_template_kwargs={"enable_thinking": False},
        ),
        train_dataset=Dataset.from_list([{"prompt": PROMPT}] * 64),
        processing_class=tokens,
        environment_factory=Bench,
    )  # fmt: skip
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    for entry in logged:
        wanted = ("reward", "tools/call_frequency", "tools/failure_frequency")
        print({name: entry[name] for name in wanted if name in entry})
    calls = sum(entry.get("tools/call_frequency", 0) for entry in logged)
    assert len(logged) == given.steps and calls > 0, "the environment was never asked"
    print(f"{given.steps} optimizer steps on {given.url}")


if __name__ == "__main__":
    main()
