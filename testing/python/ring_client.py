"""A trainer on the engine's host, with the package `envmill` and numpy.

    python ring_client.py ADDRESS JOB_ID TRAJECTORIES RING_BYTES

What `ring_trainer.py` does with `grpcio`, and prints the same. For the job `-` it waits for a line that says
which.
"""

import json
import sys
import time

from envmill import Client
# Imports numpy, as a trainer has done long before its first record.
from ring_sums import total


def arrays(record):
    yield "token_ids", record.token_ids
    yield "logprobs", record.logprobs
    yield "loss_mask", record.loss_mask
    for index, (name, blob) in enumerate(record.blobs.items()):
        yield f"{index} {name}", blob.array


def main():
    address, job_id, count, ring_bytes = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5])
    sums, in_memory, writable, numbers = {}, 0, 0, []
    with Client(f"http://{address}") as client:
        job_id = input() if job_id == "-" else job_id
        rollouts = client.attach(job_id, shared_memory=ring_bytes or None)
        while len(numbers) < count:
            record = next(rollouts)
            if not numbers:
                # What came before was done once: the ring's memory was found, 1 ms a MiB.
                began, cpu = time.perf_counter(), time.process_time()
            in_memory += record.in_place
            for name, array in arrays(record):
                sums[name] = sums.get(name, 0) + total(array)
                writable += array.flags.writeable
            numbers.append(record.delivery.number)
            # Its memory is given back here.
            del record, array
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        figures = {"seconds": seconds, "cpu_s": cpu, "in_memory": in_memory, "writable": writable}
        print(json.dumps({**figures, "numbers": numbers, "sums": sums}))
        rollouts.close()


if __name__ == "__main__":
    main()
