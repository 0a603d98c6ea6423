"""Open-loop generator for OpenEnv servers: websockets and asyncio, and nothing of Envmill or OpenEnv.

Steps are due at equal gaps over all sessions. One that is due goes to a session that is free, or waits for one, in
order; its latency counts from when it was due. What still waits at the end was not sent.

usage: open_loop.py URL SESSIONS RATE SECONDS ACTION_JSON [WARM_UP_S]
"""
import asyncio
import json
import sys
import time

import websockets

url, sessions, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
step = json.dumps({"type": "step", "data": json.loads(sys.argv[5])})
warm_up = float(sys.argv[6]) if len(sys.argv) > 6 else 1.0
address = url.replace("http", "ws", 1) + "/ws"


def at(values, share):
    return 1e3 * values[min(len(values) - 1, int(len(values) * share))] if values else None


async def main():
    gate = asyncio.Semaphore(8)

    async def opened():
        async with gate:
            socket = await websockets.connect(address, compression=None, max_size=None)
            await socket.send('{"type":"reset","data":{}}')
            answer = json.loads(await socket.recv())
            assert answer["type"] == "observation", answer
            return socket

    free = asyncio.Queue()
    sockets = await asyncio.gather(*(opened() for _ in range(sessions)))
    for socket in sockets:
        free.put_nowait(socket)
    first = time.perf_counter()
    begin, end = first + warm_up, first + warm_up + seconds
    from_due, from_sent, failures, under_way = [], [], [], set()
    done = 0

    async def play(socket, due):
        nonlocal done
        try:
            sent = time.perf_counter()
            await socket.send(step)
            answer = await socket.recv()
            answered = time.perf_counter()
            if '"observation"' not in answer:
                failures.append(answer)
            elif begin <= due < end:
                from_due.append(answered - due)
                from_sent.append(answered - sent)
            if begin <= answered < end:
                done += 1
        finally:
            free.put_nowait(socket)

    number = 0
    while True:
        due = first + number / rate
        if due >= end:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        try:
            socket = await asyncio.wait_for(free.get(), max(0.0, end - time.perf_counter()))
        except asyncio.TimeoutError:
            break
        task = asyncio.create_task(play(socket, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        number += 1
    not_sent = max(0, int((end - first) * rate) - number)
    cpu = time.process_time()
    await asyncio.gather(*under_way)
    for socket in sockets:
        await socket.close()
    from_due.sort()
    from_sent.sort()
    print(
        json.dumps(
            {
                "sessions": sessions,
                "steps_per_s": done / seconds,
                "step_p50_ms": at(from_sent, 0.5),
                "step_p99_ms": at(from_sent, 0.99),
                "due_p50_ms": at(from_due, 0.5),
                "due_p99_ms": at(from_due, 0.99),
                "not_sent": not_sent,
                "failures": len(failures),
                "client_cpu_s": cpu,
            }
        )
    )


asyncio.run(main())
