"""A harness of three turns, through `envmill capture`: capture_flow.py BASE_URL

It knows nothing of tokens. What comes of it has to be one conversation, token by token, in the form of
OpenEnv's own model of a trace.
"""

import json
import sys
import urllib.request

import openai
from openenv.core.harness import TrainingTrace


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())


root = sys.argv[1].removesuffix("/v1")
opened = post(root + "/episodes", {})
client = openai.OpenAI(base_url=opened["base_url"], api_key=opened["api_key"], max_retries=0)
messages = [{"role": "system", "content": "You answer."}]
for turn in range(3):
    messages.append({"role": "user", "content": f"Question {turn}?"})
    if turn == 1:
        parts = client.chat.completions.create(model="any", messages=messages, max_tokens=12, stream=True)
        said = "".join(it.choices[0].delta.content or "" for it in parts if it.choices)
    else:
        answer = client.chat.completions.create(model="any", messages=messages, max_tokens=12)
        said = answer.choices[0].message.content
    messages.append({"role": "assistant", "content": said})
closed = post(root + "/episodes/close", {"api_key": opened["api_key"], "reward": 0.5, "metadata": {"task": "t"}})
assert (closed["reward"], closed["metadata"]) == (0.5, {"task": "t"}), closed
trace = TrainingTrace.model_validate(closed["trace"])
assert len(trace.turns) == 3, trace
before = []
for turn in trace.turns:
    assert list(turn.prompt_token_ids[: len(before)]) == before, "a prompt does not go on from what was said"
    before = list(turn.prompt_token_ids) + list(turn.completion_token_ids)
    assert len(turn.per_token_logps) == len(turn.completion_token_ids) > 0
try:
    client.chat.completions.create(model="any", messages=messages)
except openai.AuthenticationError:
    pass
else:
    sys.exit("a closed episode's key is still worth something")
print("ok")
