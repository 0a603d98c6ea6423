"""What harnesses do with the `openai` package, against `envmill-capture` over an engine that answers by rule.

`openai_client.py SCENARIO BASE_URL API_KEY`: one of the functions below.
"""

import asyncio
import json
import sys
import types

import openai
from openai import AsyncOpenAI, OpenAI

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Looks up.",
            "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
        },
    }
]
SAID = 'You said "hello", é漢🙂.'


def user(text):
    return {"role": "user", "content": text}


def plain(client):
    assert client.models.list().data[0].id == "envmill"
    answer = client.chat.completions.create(
        model="envmill", messages=[user("hello")], logprobs=True, temperature=0.5, seed=1
    )
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == (SAID, "stop"), choice
    assert answer.usage.completion_tokens == len(choice.logprobs.content), answer.usage
    assert choice.logprobs.content[0].token == "Y"
    raw = client.chat.completions.with_raw_response.create(model="gpt-x", messages=[user("think")])
    message = raw.parse().choices[0].message
    assert (message.content, message.reasoning_content) == ("Yes 🙂.", "Hm, 漢."), message
    cut = client.chat.completions.create(model="x", messages=[user("hello")], max_tokens=3)
    assert (cut.choices[0].finish_reason, cut.choices[0].message.content) == ("length", "You")


def streamed(client):
    chunks = list(
        client.chat.completions.create(
            model="envmill",
            messages=[user("hello")],
            stream=True,
            stream_options={"include_usage": True},
            logprobs=True,
        )
    )
    first, last, usage = chunks[0], chunks[-2], chunks[-1]
    assert first.choices[0].delta.role == "assistant", first
    assert last.choices[0].finish_reason == "stop", last
    assert usage.choices == [] and usage.usage.completion_tokens > 10, usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(deltas) == SAID and "漢" in deltas, deltas
    logprobs = [chunk.choices[0].logprobs for chunk in chunks[:-1]]
    counted = sum(len(it.content) for it in logprobs if it)
    assert counted == usage.usage.completion_tokens, counted
    thinking = list(
        client.chat.completions.create(model="x", messages=[user("think")], stream=True)
    )
    thought = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in thinking]
    assert "".join(filter(None, thought)) == "Hm, 漢.", thought
    # The package's own gathering of a stream.
    with client.chat.completions.stream(model="x", messages=[user("call")], tools=TOOLS) as stream:
        gathered = stream.get_final_completion()
    calls = gathered.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["look_up", "look_up"], calls
    assert gathered.choices[0].finish_reason == "tool_calls"


def tools(client):
    messages = [user("call")]
    message = client.chat.completions.create(model="x", messages=messages, tools=TOOLS).choices[0]
    assert message.finish_reason == "tool_calls", message
    messages.append(message.message)
    for call in message.message.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "found"})
    said = client.chat.completions.create(model="x", messages=messages, tools=TOOLS)
    messages.append(said.choices[0].message.model_dump())
    messages.append(user("hello"))
    with client.chat.completions.stream(model="x", messages=messages, tools=TOOLS) as stream:
        said = stream.get_final_completion()
    assert said.choices[0].message.content == SAID, said


def choices(client):
    more = {"model": "x", "messages": [user("pick")], "n": 3, "seed": 7, "logprobs": True, "top_logprobs": 2}
    answer = client.chat.completions.create(**more)
    said = [it.message.content for it in answer.choices]
    assert [it.index for it in answer.choices] == [0, 1, 2] and len(set(said)) == 3, answer
    told = answer.choices[2].logprobs.content[0]
    assert [it.logprob for it in told.top_logprobs] == [-0.25, -0.5], told
    assert told.top_logprobs[1].token == told.token == "I", told
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(stream=True, **more):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.logprobs:
                assert all(len(it.top_logprobs) == 2 for it in choice.logprobs.content), choice
    assert texts == said, texts
    # The last of them is what it goes on with.
    messages = [user("pick"), {"role": "assistant", "content": said[2]}, user("hello")]
    answer = client.chat.completions.create(model="x", messages=messages)
    assert answer.choices[0].message.content == SAID, answer


def completions(client):
    answer = client.completions.create(
        model="x", prompt="say yes", logprobs=2, extra_body={"return_token_ids": True}
    )
    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason) == ("yes", "stop"), choice
    assert choice.logprobs.text_offset[:3] == [0, 1, 2] and choice.logprobs.tokens[0] == "y", choice
    assert choice.logprobs.top_logprobs[0] == {"y": -0.5, "z": -0.25}, choice
    assert answer.usage.total_tokens == len(choice.prompt_token_ids) + len(choice.token_ids), answer
    client.completions.create(model="x", prompt=choice.prompt_token_ids + choice.token_ids)
    texts = ["", "", "", ""]
    for chunk in client.completions.create(model="x", prompt=["say a", "say é"], n=2, stream=True, max_tokens=50):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == ["a", "a", "é", "é"], texts
    several = client.completions.create(model="x", prompt=["say a", "say b"])
    assert [it.text for it in several.choices] == ["a", "b"], several


def held(client):
    more = {"model": "x", "messages": [user("hello")]}
    required = client.chat.completions.create(tools=TOOLS, tool_choice="required", **more)
    call = required.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("look_up", {"what": "é"}), call
    assert required.choices[0].finish_reason == "tool_calls", required
    named = {"type": "function", "function": {"name": "look_up"}}
    with client.chat.completions.stream(tools=TOOLS, tool_choice=named, **more) as stream:
        gathered = stream.get_final_completion().choices[0]
    assert json.loads(gathered.message.tool_calls[0].function.arguments) == {"what": "é"}, gathered
    assert (gathered.finish_reason, gathered.message.content or "") == ("stop", ""), gathered
    schema = {"name": "found", "schema": {"type": "object", "properties": {"what": {"type": "string"}}}}
    for form in [{"type": "json_object"}, {"type": "json_schema", "json_schema": schema}]:
        said = client.chat.completions.create(response_format=form, **more).choices[0].message.content
        assert json.loads(said) == {"what": "é"}, said
    said = client.completions.create(
        model="x", prompt="say a", max_tokens=99, extra_body={"response_format": {"type": "json_object"}}
    )
    assert json.loads(said.choices[0].text) == {"what": "é"}, said


def api(client):
    """What a real model may be asked for, whatever it says."""
    question = {"model": "tiny", "messages": [user("Where?")]}
    answer = client.chat.completions.create(
        n=3, seed=5, temperature=1, max_tokens=8, logprobs=True, top_logprobs=4, **question
    )
    said = [it.message.content for it in answer.choices]
    assert len(said) == 3 and len(set(said)) > 1, said
    for choice in answer.choices:
        for told in choice.logprobs.content:
            top = [it.logprob for it in told.top_logprobs]
            assert len(top) == 4 and top == sorted(top, reverse=True) and told.logprob <= top[0] + 1e-4, told
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(
        n=3, seed=5, temperature=1, max_tokens=8, stream=True, logprobs=True, top_logprobs=4, **question
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == said, (texts, said)
    first = client.completions.create(
        model="tiny", prompt="Once upon", max_tokens=6, logprobs=3, temperature=1, seed=3,
        extra_body={"return_token_ids": True, "ignore_eos": True},
    )
    choice = first.choices[0]
    assert len(choice.token_ids) == len(choice.logprobs.tokens) == 6, choice
    ids = choice.prompt_token_ids + choice.token_ids
    client.completions.create(model="tiny", prompt=ids, max_tokens=3)
    shape = {
        "type": "object",
        "properties": {"size": {"type": "integer", "enum": [1, 22]}, "color": {"enum": ["red", "green"]}},
        "required": ["size", "color"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": shape}}
    more = {"temperature": 1, "max_tokens": 500, **question}

    def whole(ask):
        # A model that knows nothing may fill up with the whitespace that JSON allows.
        for seed in range(0, 20, 2):
            choice = ask(seed)
            if choice.finish_reason != "length":
                return choice
        raise AssertionError(f"never came to an end: {choice}")

    found = whole(lambda seed: client.chat.completions.create(response_format=form, seed=seed, **more).choices[0])
    thing = json.loads(found.message.content)
    assert found.finish_reason == "stop" and list(thing) == ["size", "color"], found
    assert thing["size"] in (1, 22) and thing["color"] in ("red", "green"), thing
    tools = [
        {"type": "function", "function": {"name": "paint", "parameters": shape}},
        {"type": "function", "function": {"name": "wait"}},
    ]

    def called(seed):
        return client.chat.completions.create(
            tools=tools, tool_choice="required", parallel_tool_calls=False, seed=seed, **more
        ).choices[0]

    required = whole(called)
    [call] = required.message.tool_calls
    assert required.finish_reason == "tool_calls" and call.function.name in ("paint", "wait"), required
    named = {"type": "function", "function": {"name": "paint"}}

    def streamed(seed):
        # Gathered by hand: the package's own gathering refuses what was cut.
        text, finish = "", None
        for chunk in client.chat.completions.create(tools=tools, tool_choice=named, seed=seed, stream=True, **more):
            for call in chunk.choices[0].delta.tool_calls or []:
                assert call.function.name == "paint", call
                text += call.function.arguments
            finish = chunk.choices[0].finish_reason or finish
        return types.SimpleNamespace(text=text, finish_reason=finish)

    painted = whole(streamed)
    assert (painted.finish_reason, json.loads(painted.text)["size"] in (1, 22)) == ("stop", True), painted


def errors(client):
    def refused(kind, status, code=None, **more):
        try:
            client.chat.completions.create(**{"model": "x", "messages": [user("hello")], **more})
        except kind as error:
            assert (error.status_code, error.code) == (status, code), error
            return error
        raise AssertionError(f"{more} was not refused")

    refused(openai.BadRequestError, 400, n=0)
    refused(openai.BadRequestError, 400, tool_choice="required")
    long = [user("x" * 40000)]
    refused(openai.BadRequestError, 400, "context_length_exceeded", messages=long)
    refused(openai.RateLimitError, 429, "rate_limit_exceeded", messages=[user("busy")])
    refused(openai.InternalServerError, 502, messages=[user("lost")], stream=True)
    try:
        client.embeddings.create(model="x", input="y")
        raise AssertionError("there are no embeddings")
    except openai.NotFoundError as error:
        assert error.code == "unknown_url", error
    broken = client.chat.completions.create(model="x", messages=[user("say break")], stream=True)
    try:
        list(broken)
        raise AssertionError("the stream did not break")
    except openai.APIError as error:
        assert "gone in the middle" in error.message, error
    client = client.with_options(api_key="sk-envmill-nobody")
    try:
        client.models.list()
        raise AssertionError("anybody is let in")
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key", error


def hang_up(client):
    stream = client.chat.completions.create(model="x", messages=[user("slow")], stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()


def turns(client):
    """Four greedy turns, every other one streamed, of a model that may say anything."""
    messages = [{"role": "system", "content": "You play."}, user("Where?")]
    for turn in range(4):
        more = {"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 24, "logprobs": True}
        if turn % 2:
            text, counted = "", 0
            for chunk in client.chat.completions.create(stream=True, **more):
                text += chunk.choices[0].delta.content or ""
                logprobs = chunk.choices[0].logprobs
                counted += len(logprobs.content) if logprobs else 0
            assert 0 < counted <= 24, counted
        else:
            answer = client.chat.completions.create(**more)
            text = answer.choices[0].message.content
            assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens
        messages += [{"role": "assistant", "content": text}, user(f"And then? {turn}")]


async def crowd(base_url, api_key):
    async with AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=300) as client:

        async def play(number):
            messages = [user(f"I am {number}")]
            for turn in range(3):
                text = ""
                stream = await client.chat.completions.create(
                    model="x", messages=messages, stream=True
                )
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or ""
                asked = messages[-1]["content"]
                assert text == f'You said "{asked}", é漢🙂.', text
                messages.append({"role": "assistant", "content": text})
                messages.append(user(f"turn {turn} of {number}"))

        await asyncio.gather(*(play(number) for number in range(256)))


if __name__ == "__main__":
    scenario, base_url, api_key = sys.argv[1:]
    if scenario == "crowd":
        asyncio.run(crowd(base_url, api_key))
    else:
        globals()[scenario](OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=60))
