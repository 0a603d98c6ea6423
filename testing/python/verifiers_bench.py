"""Plays episodes of an OpenEnv server with `verifiers` 0.4, and says what that cost.

    python3 -m venv .venvs/verifiers
    .venvs/verifiers/bin/pip install -r testing/python/verifiers-requirements.txt
    verifiers_bench.py WORK.json

Run by `verifiers-rollouts`. It is verifiers' own OpenEnv taskset, its client for training (token ids and
log-probabilities over vLLM's endpoint), and its runner without the display: an environment that is served
once, slots that are run under a semaphore, and episodes that are appended to a file. The harness is named in
WORK: `null` is the one that comes with verifiers; `verifiers_harness` is the file beside this one.

Prints one JSON object. CPU is of this process and of those it has started and waited for, from the first
measured episode to the last; imports and the first eight episodes are not in it.
"""

import asyncio
import json
import logging
import pathlib
import resource
import sys
import time


def spent():
    own, children = (resource.getrusage(it) for it in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime


async def play(work):
    from verifiers.v1.clients import ModelContext
    from verifiers.v1.configs.client import TrainClientConfig
    from verifiers.v1.tasksets.openenv.taskset import OpenEnvEnvConfig
    from verifiers.v1.types import SamplingConfig
    from verifiers.v1.utils.loaders import load_environment
    from verifiers.v1.utils.trace_store import append_episode

    warm_up = min(work["in_flight"], 8)
    count = work["episodes"] + warm_up
    config = OpenEnvEnvConfig.model_validate({
        "taskset": {
            "id": "openenv",
            "base_url": work["environment"],
            "resets": [{"seed": seed} for seed in range(count)],
        },
        "player": {"harness": {"id": work["harness"]}, "runtime": {"type": "subprocess"}},
    })
    env = load_environment(config)
    tasks = list(env.taskset)
    client = TrainClientConfig(
        base_url=f"{work['model']}/v1",
        api_key_var="NO_API_KEY",
        renderer_model_name=work["folder"],
    )
    context = ModelContext(client=client, model="mock", sampling=SamplingConfig(max_tokens=256))
    semaphore = asyncio.Semaphore(work["in_flight"])
    out = pathlib.Path(work["out"])
    out.mkdir(parents=True, exist_ok=True)
    lock = asyncio.Lock()

    async def kept(episode):
        await append_episode(out, episode, lock)

    async def run(tasks):
        slots = [slot for task in tasks for slot in env.slots(task)]
        return await asyncio.gather(*(env.run_slot(slot, context, semaphore, kept) for slot in slots))

    try:
        async with env.serving():
            await run(tasks[:warm_up])
            before, began = spent(), time.perf_counter()
            episodes = await run(tasks[warm_up:])
            took = time.perf_counter() - began
            own, children = (after - before for after, before in zip(spent(), before))
    finally:
        if work["harness"] == "verifiers_harness":
            import verifiers_harness

            await verifiers_harness.close()
    good = [episode for episode in episodes if episode.ok]
    print(json.dumps({
        "episodes": len(good),
        "turns": sum(trace.num_turns for episode in good for trace in episode.traces),
        "failed": len(episodes) - len(good),
        "why": why(episodes),
        "own_cpu_s": own,
        "children_cpu_s": children,
        "wall_s": took,
    }))


def why(episodes):
    """What the first episode that failed says."""
    for episode in episodes:
        errors = [*episode.errors, *(error for trace in episode.traces for error in trace.errors)]
        if errors and not episode.ok:
            return f"{errors[0].type}: {errors[0].message}"[:300]
    return None


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    with open(sys.argv[1], encoding="utf-8") as file:
        asyncio.run(play(json.load(file)))
