"""What harnesses do with the `openai` package, against `envmill-capture` over an engine that answers by rule.

`openai_client.py SCENARIO BASE_URL API_KEY`: one of the functions below.
"""

import asyncio
import sys

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


def errors(client):
    def refused(kind, status, code=None, **more):
        try:
            client.chat.completions.create(**{"model": "x", "messages": [user("hello")], **more})
        except kind as error:
            assert (error.status_code, error.code) == (status, code), error
            return error
        raise AssertionError(f"{more} was not refused")

    refused(openai.BadRequestError, 400, n=2)
    refused(openai.BadRequestError, 400, tool_choice="required", tools=TOOLS)
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
