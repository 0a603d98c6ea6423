"""The stock OpenEnv client (GenericEnvClient) in a closed loop, as a user of it would write that.

usage: python -c PROGRAM, with one JSON object on standard input (headers may be secrets, and arguments are not):
  url, sessions (a list), warm_up_s, measure_s, actions (a list, taken in turn), reset (an object),
  seed (or null), max_steps (or null), server_pids (a list), headers (an object)
Prints {"version": ...}, and then one JSON object a line for each number of sessions.
"""
import asyncio
import importlib.metadata
import inspect
import json
import os
import sys
import time

from openenv.core import GenericEnvClient

options = json.load(sys.stdin)
TICKS = os.sysconf("SC_CLK_TCK")
CONNECTS_AT_ONCE = 8


def tree(pid):
    found = [pid]
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as children:
                for child in children.read().split():
                    found += tree(int(child))
    except OSError:
        pass
    return found


def server_cpu():
    """User and system time of the server's processes, in seconds."""
    total = 0
    for pid in {pid for root in options["server_pids"] for pid in tree(root)}:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            total += sum(int(field) for field in fields[11:15])
        except OSError:
            pass
    return total / TICKS


async def point(sessions):
    failures = 0
    clients = []
    gate = asyncio.Semaphore(CONNECTS_AT_ONCE)
    arguments = {}
    if options["headers"] and "headers" in inspect.signature(GenericEnvClient.__init__).parameters:
        arguments["headers"] = options["headers"]

    def seeded(session, episode):
        given = dict(options["reset"])
        if options["seed"] is not None:
            given.setdefault("seed", options["seed"] + session + episode * sessions)
        return given

    async def opened(session):
        nonlocal failures
        async with gate:
            client = GenericEnvClient(base_url=options["url"], **arguments)
            try:
                await client.connect()
                await client.reset(**seeded(session, 0))
                clients.append((session, client))
            except Exception:
                failures += 1

    await asyncio.gather(*(opened(session) for session in range(sessions)))
    begin = time.perf_counter() + options["warm_up_s"]
    end = begin + options["measure_s"]
    latencies = []
    actions = options["actions"]
    cpu = []

    async def play(session, client):
        nonlocal failures
        episode = taken = 0
        turn = session
        try:
            while True:
                sent = time.perf_counter()
                if sent >= end:
                    return
                result = await client.step(actions[turn % len(actions)])
                answered = time.perf_counter()
                turn += 1
                taken += 1
                if begin <= answered < end:
                    latencies.append(answered - sent)
                if result.done or (options["max_steps"] and taken >= options["max_steps"]):
                    episode += 1
                    taken = 0
                    await client.reset(**seeded(session, episode))
        except Exception:
            failures += 1

    async def clock():
        for at in (begin, end):
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            cpu.append((time.process_time(), server_cpu()))

    await asyncio.gather(clock(), *(play(session, client) for session, client in clients))
    for _, client in clients:
        try:
            await client.close()
        except Exception:
            pass
    latencies.sort()
    steps = len(latencies)

    def at(share):
        return 1e3 * latencies[min(steps - 1, int(steps * share))] if steps else 0.0

    (client_before, server_before), (client_after, server_after) = cpu
    return {
        "sessions": sessions,
        "steps_per_s": steps / options["measure_s"],
        "step_p50_ms": at(0.5),
        "step_p99_ms": at(0.99),
        "client_cpu_us_per_step": 1e6 * (client_after - client_before) / max(1, steps),
        "server_cpu_us_per_step": 1e6 * (server_after - server_before) / max(1, steps)
        if options["server_pids"]
        else None,
        "failures": failures,
    }


async def main():
    print(json.dumps({"version": importlib.metadata.version("openenv")}), flush=True)
    for sessions in options["sessions"]:
        print(json.dumps(await point(sessions)), flush=True)
        await asyncio.sleep(0.2)


asyncio.run(main())
