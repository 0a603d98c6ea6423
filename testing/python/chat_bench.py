"""Plays conversations with transformers' fast tokenizer, from messages to token ids.

    python chat_bench.py WORK.json

Run by `chat-turns`, with an interpreter that has transformers. Prints one JSON object: CPU microseconds
a turn for two ways of doing it, and how many ids a conversation came to. Loading, and the tokenisation of
the answers, which an inference engine gives as ids, are not counted.
"""

import json
import sys
import time

from transformers import PreTrainedTokenizerFast


def whole(tokenizer, work):
    """Renders and tokenises everything at each turn, as apply_chat_template invites to."""
    messages = list(work["start"])
    ids = prompt(tokenizer, messages)
    for answer, observation in zip(work["answers"], work["observations"]):
        messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": observation})
        ids = prompt(tokenizer, messages)
    return len(ids)


def delta(tokenizer, work, answers):
    """Appends what stands behind a short made-up history, as trainers do that keep ids exact."""
    base = [{"role": "system", "content": "x"}, {"role": "user", "content": "x"},
            {"role": "assistant", "content": "x"}]
    skipped = len(tokenizer.apply_chat_template(base, tokenize=False))
    # The line break that closes an answer is not sampled.
    closing = tokenizer.encode("\n", add_special_tokens=False)
    ids = list(prompt(tokenizer, work["start"]))
    for answer, observation in zip(answers, work["observations"]):
        ids += answer
        text = tokenizer.apply_chat_template(
            [*base, {"role": "user", "content": observation}], add_generation_prompt=True, tokenize=False
        )
        ids += closing
        ids += tokenizer.encode(text[skipped:], add_special_tokens=False)
    return len(ids)


def prompt(tokenizer, messages):
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        work = json.load(file)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=work["folder"] + "/tokenizer.json")
    with open(work["folder"] + "/tokenizer_config.json", encoding="utf-8") as file:
        config = json.load(file)
    for name in ("bos_token", "eos_token"):
        token = config.get(name)
        setattr(tokenizer, name, token["content"] if isinstance(token, dict) else token)
    with open(work["template"], encoding="utf-8") as file:
        tokenizer.chat_template = file.read()
    answers = [
        tokenizer.encode(answer + tokenizer.eos_token, add_special_tokens=False)
        for answer in work["answers"]
    ]
    turns = len(answers) * work["conversations"]
    figures = {}
    for name, play in (
        ("whole", lambda: whole(tokenizer, work)),
        ("delta", lambda: delta(tokenizer, work, answers)),
    ):
        play()
        before = time.process_time()
        for _ in range(work["conversations"]):
            figures.setdefault("ids", play())
        figures[f"{name}_us"] = (time.process_time() - before) / turns * 1e6
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
