"""Four ranks of a data-parallel trainer (torch.distributed, gloo) take their shares of one job's batches;
three of them are killed (-9) on the way and come back. All ranks see the same batches, no group is taken
twice or left out, and nobody waits for ever.

    pip install ./python torch  # a venv of its own: PyTorch is large
    python examples/python/gloo_ranks.py

Rank 2 dies while it holds a share and the others wait for it in a collective; rank 3 when all have trained
on a batch and it has not acknowledged its share; rank 0, whose job it is, before it asks for its next share,
while the others wait for that batch. Each time the ones that are left form a new process group with the one
that is started again, which asks for the same share once more.
"""

import argparse
import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import timedelta

import torch.distributed as dist

import envmill

WORLD, GROUPS, SAMPLES, GROUPS_OF_BATCH = 4, 48, 4, 8
DEATHS = {(2, 1): "holding", (3, 2): "finishing", (0, 4): "asking"}
"""Where who dies, by rank and batch."""
PATIENCE = timedelta(seconds=60)
"""So long at most does anybody wait for another rank."""
BOUND_S = 300
"""So long at most may all of it take."""

JOB = {
    "name": "ranks",
    "environment": "cartpole",
    "groups": GROUPS,
    "group_rules": {"samples": SAMPLES},
    "delivery": {"order": "batches", "world": WORLD},
}


class Reformed(Exception):
    """A rank has died, and there is to be a new process group."""


class Rank:
    def __init__(self, rank, url, port, log, life):
        self.rank, self.life = rank, life
        self.log = open(log, "a", encoding="utf-8")  # noqa: SIM115
        self.store = dist.TCPStore("127.0.0.1", port, timeout=PATIENCE)
        self.rollouts = self.attached(envmill.Client(url))
        # Where it was, if it was there before.
        self.batch = self.store.add(f"batch of {rank}", 0)
        self.share = None

    def attached(self, client):
        """Rank 0 submits the job; if it comes back, that attaches it to the one that it has submitted."""
        if self.rank == 0:
            rollouts = client.rollouts(JOB)
            self.store.set("job", rollouts.job_id)
            return rollouts
        return client.attach(self.store.get("job").decode(), self.rank)

    async def train(self):
        while True:
            generation = self.generation()
            try:
                await self.form(generation)
                await self.steps(generation)
                return
            except (Reformed, RuntimeError) as error:
                print(f"rank {self.rank}: {type(error).__name__} in batch {self.batch}", file=sys.stderr)
                dist.destroy_process_group()
            while self.generation() == generation:
                await asyncio.sleep(0.05)

    def generation(self):
        return self.store.add("deaths", 0)

    async def form(self, generation):
        """A process group of those that are there now. What any of them has finished is finished for all:
        here a trainer that is behind would take the weights of one that is not."""
        store = dist.PrefixStore(f"group {generation}", self.store)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=WORLD, timeout=PATIENCE)
        furthest = max(everyone(self.batch))
        while self.batch < furthest:
            await self.ask(generation)
            self.finish()

    async def steps(self, generation):
        while True:
            self.die("asking")
            await self.ask(generation)
            if self.share is None:
                dist.barrier()
                return
            self.die("holding")
            # A step of training: all ranks exchange something, as they would exchange gradients.
            groups = everyone(sorted({record.group_id for record in self.share}))
            assert len({group for share in groups for group in share}) == GROUPS_OF_BATCH, groups
            self.die("finishing")
            self.finish()

    async def ask(self, generation):
        """Has this rank's share; waits for the ranks that have not asked, unless one of them has died."""
        if self.share is not None:
            return
        asking = asyncio.create_task(self.rollouts.anext_batch(self.batch, GROUPS_OF_BATCH))
        while not asking.done():
            if self.generation() > generation:
                asking.cancel()
                raise Reformed
            await asyncio.wait([asking], timeout=0.1)
        self.share = asking.result()
        if self.share is not None:
            self.write()

    def finish(self):
        self.rollouts.ack(self.share)
        self.batch = self.store.add(f"batch of {self.rank}", 1)
        self.share = None

    def write(self):
        groups = Counter(record.group_id for record in self.share)
        line = {"rank": self.rank, "batch": self.batch, "life": self.life, "groups": sorted(groups.items())}
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()

    def die(self, where):
        if self.life == 0 and DEATHS.get((self.rank, self.batch)) == where:
            os.kill(os.getpid(), signal.SIGKILL)


def everyone(what):
    """What each rank has to say."""
    said = [None] * WORLD
    dist.all_gather_object(said, what)
    return said


def supervise(url, directory):
    """Starts the ranks, and again those that are killed."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
    lives, ranks = Counter(), {}

    def start(rank):
        log = directory / f"{rank}.jsonl"
        command = [sys.executable, __file__, "--rank", rank, "--life", lives[rank]]
        command += ["--url", url, "--port", store.port, "--log", log]
        ranks[rank] = subprocess.Popen([str(word) for word in command])
        lives[rank] += 1

    for rank in range(WORLD):
        start(rank)
    give_up = time.monotonic() + BOUND_S
    try:
        while any(process.poll() is None for process in ranks.values()):
            assert time.monotonic() < give_up, "somebody hangs"
            time.sleep(0.1)
            for rank, process in list(ranks.items()):
                if process.poll() == -signal.SIGKILL:
                    print(f"rank {rank} was killed", file=sys.stderr)
                    store.add("deaths", 1)
                    start(rank)
    finally:
        for process in ranks.values():
            process.kill()
            process.wait()
    assert all(process.returncode == 0 for process in ranks.values()), "a rank has failed"
    return lives


def check(directory):
    """What the ranks have written down."""
    lines = [json.loads(line) for path in directory.glob("*.jsonl") for line in path.open()]
    shares = {}
    for line in lines:
        # A share that came again is the same.
        assert shares.setdefault((line["rank"], line["batch"]), line["groups"]) == line["groups"], line
    batches = [{batch for rank, batch in shares if rank == each} for each in range(WORLD)]
    assert all(each == set(range(GROUPS // GROUPS_OF_BATCH)) for each in batches), batches
    taken = Counter(group for share in shares.values() for group, _ in share)
    assert taken == Counter(range(GROUPS)), "a group was taken twice, or was left out"
    assert all(count == SAMPLES for share in shares.values() for _, count in share), "a group is not whole"
    assert all(len(share) == GROUPS_OF_BATCH // WORLD for share in shares.values()), "shares differ"
    return sum(line["life"] == 1 and (line["rank"], line["batch"]) in DEATHS for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, kind in (("rank", int), ("life", int), ("port", int), ("url", str), ("log", str)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        asyncio.run(Rank(given.rank, given.url, given.port, given.log, given.life).train())
        return
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        config = directory / "cluster.toml"
        config.write_text(
            f'[service]\nlisten = "127.0.0.1:0"\nstore = {json.dumps(name + "/store")}\n'
            '[environments.cartpole]\nenv = "native:cartpole"\n'
        )
        command = [sys.executable, "-m", "envmill", "serve", "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
            try:
                lives = supervise(service.stdout.readline().strip(), directory)
            finally:
                service.terminate()
        again = check(directory)
    assert lives == Counter({rank: 1 + any(rank == it for it, _ in DEATHS) for rank in range(WORLD)}), lives
    print(
        f"{WORLD} ranks took {GROUPS // GROUPS_OF_BATCH} batches of {GROUPS_OF_BATCH} groups, each group "
        f"once; {len(DEATHS)} of them were killed and came back, to {again} shares that they had asked for"
    )


if __name__ == "__main__":
    main()
