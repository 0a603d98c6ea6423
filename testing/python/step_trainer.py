"""A trainer in Python that is the policy; and one that makes a call for each step in place of that.

    python step_trainer.py envmill|grpcio URL SESSIONS COUNT NAME

`envmill` answers so many turns of a job NAME of the environment `synthetic`, all with the same action, by the
package of that name. `grpcio` makes so many unary calls, SESSIONS at once: `grpc.health.v1.Health/Check`, whose
messages are nearly empty. Prints how many there were, and what they took in seconds and CPU seconds.
"""

import asyncio
import json
import sys
import threading
import time


def envmill(url, sessions, count, name):
    from envmill import Client

    job = {
        "name": name,
        "environment": "synthetic",
        # They have 50 steps on average. More than are played: it is cancelled when enough were taken.
        "episodes": count // 40 + 2 * sessions,
        "policy": "trainer",
        "limits": {"sessions": sessions, "max_steps": 1_000},
    }

    def take(rollouts):
        for _ in rollouts:
            pass

    with Client(url) as client:
        rollouts = client.rollouts(job)
        taker = threading.Thread(target=take, args=[rollouts])
        taker.start()
        answered, clock = 0, Clock()
        with client.policy(rollouts.job_id, min_batch=sessions // 4) as policy:
            for turns in policy:
                policy.answer(turns, [b'{"value":0}'] * len(turns))
                answered += len(turns)
                if answered >= count:
                    break
            clock.tell(answered)
            rollouts.cancel()
            taker.join()


async def grpcio(url, sessions, count):
    import grpc

    async with grpc.aio.insecure_channel(url.removeprefix("http://")) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")

        async def call(times):
            for _ in range(times):
                await check(b"")

        await call(1)
        clock, each = Clock(), count // sessions
        await asyncio.gather(*(call(each) for _ in range(sessions)))
        clock.tell(each * sessions)


class Clock:
    def __init__(self):
        self.began, self.cpu = time.perf_counter(), time.process_time()

    def tell(self, count):
        seconds, cpu = time.perf_counter() - self.began, time.process_time() - self.cpu
        print(json.dumps({"count": count, "seconds": seconds, "cpu_s": cpu}), flush=True)


def main():
    how, url, sessions, count, name = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5]), sys.argv[5]
    if how == "envmill":
        envmill(url, sessions, count, name)
    else:
        asyncio.run(grpcio(url, sessions, count))


if __name__ == "__main__":
    main()
