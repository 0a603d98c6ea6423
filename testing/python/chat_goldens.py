"""What transformers makes of messages: the texts and ids that engine/chat is tested against.

Run with an interpreter that has transformers, from the repository's root:

    python testing/python/chat_goldens.py [--train]

Writes engine/chat/tests/fixtures/goldens.json from the templates beside it, which are our own. With
--train it also makes the two small tokenizers there, from this repository's texts.
"""

import json
import pathlib
import sys
from datetime import datetime

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, trainers
from transformers.utils import chat_template_utils

FIXTURES = pathlib.Path("engine/chat/tests/fixtures")
NOW = datetime(2025, 3, 9, 14, 5, 6)
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <s> </s> [INST] [/INST] [TOOL_CALLS] [ARGS]
[AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] <|start_header_id|>
<|end_header_id|> <|eot_id|> <|python_tag|> <start_of_turn> <end_of_turn> <|system|> <|user|>
<|assistant|> <|observation|> <|end|>""".split()
MARKUP = "<think> </think> <tool_call> </tool_call> <tool_response> </tool_response>".split()
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<|endoftext|>"}


class FixedTime(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def corpus():
    for pattern in ("*.md", "docs/*.md", "docs/decisions/*.md", "testing/python/*.py"):
        for file in sorted(pathlib.Path(".").glob(pattern)):
            if file.name not in ("chat_goldens.py", "conversations.md"):
                yield file.read_text()


def train():
    """One in the manner of byte-level models, one in the manner of SentencePiece."""
    added = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    added += [AddedToken(text, special=False, normalized=False) for text in MARKUP]

    bytewise = Tokenizer(models.BPE())
    bytewise.normalizer = normalizers.NFC()
    bytewise.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bytewise.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytewise.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False),
    )
    save(bytewise, added, FIXTURES / "bytes", "<|im_end|>", ["<|im_end|>", "<|endoftext|>"])

    pieces = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    pieces.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    lines = (line for text in corpus() for line in text.split("\n"))
    words = (word for line in lines for word in line.replace(" ", " \0").split("\0"))
    pieces.train_from_iterator(
        words,
        trainers.BpeTrainer(
            vocab_size=700, special_tokens=["<unk>", *bytes_], show_progress=False, limit_alphabet=80
        ),
    )
    # The byte tokens are pieces, not text that is looked for.
    state = json.loads(pieces.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] == "<unk>"]
    pieces = Tokenizer.from_str(json.dumps(state))
    save(pieces, added, FIXTURES / "pieces", "</s>", 2)


def save(tokenizer, added, folder, end, eos):
    tokenizer.add_tokens(added)
    folder.mkdir(parents=True, exist_ok=True)
    state = json.loads(tokenizer.to_str())
    text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text + "\n")
    ids = [tokenizer.token_to_id(token) for token in eos] if isinstance(eos, list) else (
        tokenizer.token_to_id(end)
    )
    config = {"bos_token": {"content": "<s>"}, "eos_token": end, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}) + "\n")


def call(name, arguments, id="call00001"):
    function = {"name": name, "arguments": arguments}
    return {"id": id, "type": "function", "function": function}


def conversations():
    system = {"role": "system", "content": "  You are a careful assistant.\n"}
    user = {"role": "user", "content": "What is the weather in Zürich — and in 東京? 😀"}
    plain = {"role": "assistant", "content": " It is sunny.\n\n"}
    more = {"role": "user", "content": "Thank you!\n\tAnd <b>tomorrow</b>, it's \"fine\"?  "}
    thought = {"role": "assistant", "content": "<think>\nHmm, let me see.\n</think>\n\nRain."}
    calls = call("look_up", {"what": "weather", "where": "Zürich", "days": 3, "deep": {"a": [1, None]}})
    calling = {"role": "assistant", "content": "", "tool_calls": [calls]}
    silent = {"role": "assistant", "content": None, "tool_calls": [calls]}
    two = {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [calls, call("add", {"a": 1.0, "b": True}, "call00002")],
    }
    answer = {
        "role": "tool", "content": '{"sky": "clear"}', "tool_call_id": "call00001", "name": "look_up",
    }
    answer2 = {"role": "tool", "content": "3", "tool_call_id": "call00002", "name": "add"}
    reasoned = {"role": "assistant", "content": "Snow.", "reasoning_content": "\nIt is cold.\n"}
    return {
        "one": [user],
        "system": [system, user],
        "turns": [user, plain, more],
        "system_turns": [system, user, plain, more, thought, user],
        "ended": [system, user, plain],
        "thinking": [user, thought, more],
        "thinking_ended": [user, thought],
        "reasoned": [user, reasoned, more, reasoned],
        "tool": [user, calling, answer],
        "tool_silent": [user, silent, answer, plain, more],
        "tools": [system, user, two, answer, answer2],
        "tools_then": [system, user, two, answer, answer2, thought, more],
        "wrapped": [user, thought, {"role": "user", "content": "<tool_response>\n1\n</tool_response>"}],
        "not_alternating": [user, more, plain],
        "late_system": [user, system, plain],
    }


def tool(name, description, properties, required):
    parameters = {"type": "object", "properties": properties, "required": required}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = [
    tool(
        "look_up",
        "Looks something up: \"all\" of it, <now> & für immer.",
        {
            "what": {"type": "string", "description": " What to look up. ", "enum": ["weather", "time"]},
            "days": {"type": "integer", "description": "For how many days", "default": 1},
            "tags": {"type": "array", "items": {"type": "string"}, "description": "Tags"},
            "deep": {
                "type": "object", "description": "More",
                "additionalProperties": {"type": ["string", "null"]},
            },
        },
        ["what"],
    ),
    tool("add", "Adds.", {"a": {"type": "number", "description": "a"}, "b": {"type": "boolean",
         "description": "b"}}, ["a", "b"]),
]
VALUES = {
    "zebra": 1, "apple": "x", "numbers": [1, 2.5, -0.0, 1e20, 1e-7, 100000.0, 0.1, 12345678901234567890],
    "nested": {"b": None, "a": [True, False, {}, []], "text": "ä\"\\\n\t\u0001"},
}


def cases():
    everything = conversations()
    both = [(name, None) for name in everything]
    both += [(name, TOOLS) for name in ("system", "turns", "tool", "tools_then")]
    for template in ("chatml", "thinking", "headers", "inst", "turns", "plain", "bars", "observation"):
        for name, tools in both:
            yield template, name, tools, True, {}
        yield template, "ended", None, False, {}
        yield template, "thinking_ended", TOOLS, False, {}
    for value in (True, False):
        for name in ("one", "turns", "thinking", "tools_then"):
            yield "thinking", name, TOOLS, True, {"enable_thinking": value}
            yield "observation", name, None, True, {"enable_thinking": value}
    yield "headers", "system", None, True, {"date_string": "1 Jan 2025"}
    yield "headers", "system", TOOLS, True, {"tools_in_user_message": False}
    for name in ("one", "tools", "tools_then", "system_turns"):
        yield "signatures", name, TOOLS, True, {}
        yield "generation", name, None, True, {}
    documents = [{"title": "a book", "text": " text \n"}, {"title": "another"}]
    yield "documents", "turns", None, True, {"documents": documents}
    yield "documents", "turns", None, True, {}
    yield "python", "system_turns", None, True, {"values": VALUES}


def main():
    if "--train" in sys.argv[1:]:
        train()
    tokenizers = {
        name: Tokenizer.from_file(str(FIXTURES / name / "tokenizer.json"))
        for name in ("bytes", "pieces")
    }
    chat_template_utils.datetime = FixedTime
    goldens = []
    for template, name, tools, prompt, variables in cases():
        golden = {"template": template, "conversation": name, "tools": tools is not None,
                  "generation_prompt": prompt, "variables": variables}
        source = (FIXTURES / "templates" / f"{template}.jinja").read_text()
        try:
            [text], _ = chat_template_utils.render_jinja_template(
                conversations=[conversations()[name]], chat_template=source, tools=tools,
                documents=variables.get("documents"), add_generation_prompt=prompt,
                **SPECIALS, **{k: v for k, v in variables.items() if k != "documents"},
            )
            golden["text"] = text
            # The ids of some: they take more room than the texts.
            for kind, tokenizer in tokenizers.items() if len(goldens) % 4 == 0 else ():
                golden[kind] = tokenizer.encode(text, add_special_tokens=False).ids
        except Exception as error:
            golden["error"] = str(error)
        goldens.append(golden)
    lines = ",\n".join(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) for golden in goldens)
    shared = {"conversations": conversations(), "tools": TOOLS, "specials": SPECIALS,
              "now": int((NOW - datetime(1970, 1, 1)).total_seconds())}
    head = json.dumps(shared, ensure_ascii=False)
    (FIXTURES / "goldens.json").write_text(head[:-1] + ', "goldens": [\n' + lines + "\n]}\n")
    failed = [golden for golden in goldens if "error" in golden]
    print(f"{len(goldens)} goldens, of which {len(failed)} are errors")
    for golden in failed:
        print(golden["template"], golden["conversation"], golden["error"][:90])


if __name__ == "__main__":
    main()
