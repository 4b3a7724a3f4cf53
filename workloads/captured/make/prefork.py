"""A pre-forking server: the parent loads 200,000 records, four workers inherit them and serve from a skewed part.

Reading an object in CPython writes its reference count, so a worker breaks copy-on-write where it reads.
Prints the pid of the first worker when every worker has served for a while.
"""

import gc
import os
import random
import signal
import time

records = [{"id": i, "body": "x" * (100 + i % 400), "tags": [str(i), i % 13]} for i in range(200_000)]
gc.freeze()


def serve(seed, ready):
    rng = random.Random(seed)
    cache = {}
    for n in range(1_000_000_000):
        # Pareto: most requests fall on few records.
        record = records[int(rng.paretovariate(1.0) - 1) * 37 % len(records)]
        cache[record["id"] % 5_000] = record["body"] + record["tags"][0]
        if n == 50_000:
            os.write(ready, b"r")
        if n > 50_000:
            time.sleep(0.001)


read, write = os.pipe()
workers = []
for seed in range(4):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        serve(seed, write)
    workers.append(pid)
for _ in workers:
    os.read(read, 1)


def stop(*_):
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
    os._exit(0)


signal.signal(signal.SIGTERM, stop)
print("ready", workers[0], flush=True)
while True:
    signal.pause()
