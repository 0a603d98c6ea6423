"""Drives an OpenEnv server with the stock Python client of the OpenEnv package in use.

usage: stock_client_flow.py URL [--action JSON] [--steps N] [--sessions N]

Each session plays two episodes, one after the other: reset with a seed, N steps, state. Prints one
JSON object on standard output:

    {"version": ..., "sessions": [{"episodes": [{"reset": R, "steps": [R, ...], "state": S}, ...]}]}

where R is {"observation": ..., "reward": ..., "done": ...} as the client hands it out. Exits with
status 1 and the traceback on standard error if the client raises.
"""

import argparse
import asyncio
import importlib.metadata
import json

import serve  # noqa: F401  spares the import of gradio

from openenv.core import GenericEnvClient


def plain(result) -> dict:
    return {"observation": result.observation, "reward": result.reward, "done": result.done}


async def episode(client, action: dict, steps: int, seed: int) -> dict:
    reset = plain(await client.reset(seed=seed))
    stepped = [plain(await client.step(action)) for _ in range(steps)]
    return {"reset": reset, "steps": stepped, "state": await client.state()}


async def session(url: str, action: dict, steps: int) -> dict:
    client = GenericEnvClient(base_url=url)
    await client.connect()
    try:
        return {"episodes": [await episode(client, action, steps, seed) for seed in (1, 2)]}
    finally:
        await client.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--action", type=json.loads, default={})
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=1)
    options = parser.parse_args()
    sessions = await asyncio.gather(
        *[session(options.url, options.action, options.steps) for _ in range(options.sessions)]
    )
    version = importlib.metadata.version("openenv")
    print(json.dumps({"version": version, "sessions": sessions}, default=vars))


asyncio.run(main())
