"""Pushes trajectories through the API of Atropos and takes them again.

    python atropos_bench.py TRAJECTORIES TOKENS MEMBERS

Run by `trajectory-stream`, with an interpreter that has atroposlib 0.4. The API is its own, under
uvicorn as its command starts it; producer and trainer are processes of their own with `requests`, as the
environments and trainers of that project. Prints one JSON object: seconds and CPU seconds (server and
client) of each side.
"""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import requests

GROUPS_A_PUSH = 16
BATCH = 512


def cpu_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def group(number, tokens, members):
    ids = [[token * 97 % 50000 + sample for token in range(tokens)] for sample in range(members)]
    masks = [[-100] * 128 + one[128:] for one in ids]
    return {
        "tokens": ids,
        "masks": masks,
        "scores": [float(sample) for sample in range(members)],
        "inference_logprobs": [[1.0] * 128 + [-0.5] * (tokens - 128) for _ in range(members)],
        "env_id": 0,
        "group_overrides": {"number": number},
    }


def push(url, count, tokens, members, result):
    began = time.monotonic()
    session = requests.Session()
    for first in range(0, count // members, GROUPS_A_PUSH):
        last = min(first + GROUPS_A_PUSH, count // members)
        groups = [group(number, tokens, members) for number in range(first, last)]
        session.post(f"{url}/scored_data_list", json=groups).raise_for_status()
    result.put((time.monotonic() - began, time.process_time()))


def take(url, count, result):
    began = time.monotonic()
    session, taken, total = requests.Session(), 0, 0
    while taken < count:
        batch = session.get(f"{url}/batch").json()["batch"]
        if batch is None:
            raise SystemExit(f"{taken} of {count} came")
        for one in batch:
            taken += len(one["tokens"])
            total += sum(map(sum, one["tokens"]))
    result.put((time.monotonic() - began, time.process_time()))


def side(server, target, *arguments):
    context = multiprocessing.get_context("spawn")
    result, before = context.Queue(), cpu_of(server.pid)
    process = context.Process(target=target, args=(*arguments, result))
    process.start()
    seconds, cpu = result.get()
    process.join()
    return seconds, cpu + cpu_of(server.pid) - before


def main():
    count, tokens, members = map(int, sys.argv[1:4])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "atroposlib.api.server:app", "--port", str(port)]
    server = subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                requests.get(url, timeout=1)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        registration = {
            "wandb_group": "", "wandb_project": "", "batch_size": BATCH, "max_token_len": tokens,
            "checkpoint_dir": "", "save_checkpoint_interval": 0, "starting_step": 0, "num_steps": 1,
        }
        requests.post(f"{url}/register", json=registration, timeout=10).raise_for_status()
        requests.get(f"{url}/batch", timeout=10)
        environment = {
            "max_token_length": tokens, "desired_name": "bench", "weight": 1.0, "group_size": members,
        }
        requests.post(f"{url}/register-env", json=environment, timeout=10).raise_for_status()
        push_s, push_cpu_s = side(server, push, url, count, tokens, members)
        batch_s, batch_cpu_s = side(server, take, url, count)
    finally:
        server.terminate()
        server.wait()
    print(json.dumps({
        "push_s": push_s, "push_cpu_s": push_cpu_s, "batch_s": batch_s, "batch_cpu_s": batch_cpu_s,
    }))


if __name__ == "__main__":
    main()
