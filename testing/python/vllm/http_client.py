"""Asks a vLLM over HTTP as a rollout client in Python does, and says what that cost this process.

    http_client.py URL generate|completions REQUESTS IN_FLIGHT PROMPT_TOKENS MAX_TOKENS LOGPROBS SEED

Run by `inference-cost` with vLLM's own interpreter, which has aiohttp. One session, whose connections are
kept, JSON by the standard library. Prints one JSON object: CPU microseconds a request, requests a second,
and how many tokens were sampled. The prompts, random ids, are made before the clocks are read.
"""

import asyncio
import json
import random
import sys
import time

import aiohttp


async def main():
    url, route, *numbers = sys.argv[1:]
    requests, in_flight, prompt_tokens, max_tokens, logprobs, seed = map(int, numbers)
    draw = random.Random(seed)
    prompts = [[draw.randrange(10, 4010) for _ in range(prompt_tokens)] for _ in range(requests)]
    sampling = {"max_tokens": max_tokens, "temperature": 1.0, "top_p": 1.0, "ignore_eos": True}
    if logprobs:
        sampling["logprobs"] = 0
    if route == "generate":
        path = f"{url}/inference/v1/generate"
        sampling["detokenize"] = False
        body = {"sampling_params": sampling}
    else:
        path = f"{url}/v1/completions"
        body = {"model": "tiny", "return_token_ids": True, **sampling}
    field = "token_ids" if route == "generate" else "prompt"
    waiting = iter(prompts)
    tokens = 0

    async def lane(session):
        nonlocal tokens
        for prompt in waiting:
            async with session.post(path, json={**body, field: prompt}) as response:
                response.raise_for_status()
                choice = (await response.json())["choices"][0]
            said = choice["logprobs"]
            if not logprobs:
                values = None
            elif route == "generate":
                values = [it["logprob"] for it in said["content"]]
            else:
                values = said["token_logprobs"]
            sampled = choice["token_ids"]
            if len(sampled) != max_tokens or (values is not None and len(values) != max_tokens):
                sys.exit(f"{len(sampled)} tokens, {values}")
            tokens += len(sampled)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        before, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(lane(session) for _ in range(in_flight)))
        cpu, took = time.process_time() - before, time.perf_counter() - began
    print(json.dumps({"cpu_us": cpu / requests * 1e6, "requests_s": requests / took, "tokens": tokens}))


asyncio.run(main())
