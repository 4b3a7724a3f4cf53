"""An interpreter with a few million small objects, a third of them freed at random, and a file it maps."""

import mmap
import random
import sys
import time

rng = random.Random(1)
rows = {}
for i in range(300_000):
    rows[f"key-{i}"] = {"id": i, "name": f"name {i}", "tags": [i % 7, i % 11, str(i)], "score": rng.random()}
for key in rng.sample(sorted(rows), 100_000):
    del rows[key]
index = sorted(rows, key=lambda k: rows[k]["score"])
blobs = [bytes(rng.randrange(200_000)) for _ in range(300)]
del blobs[::2]
with open(sys.executable, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    total = sum(mapped[at] for at in range(0, len(mapped), 64 << 10))
print("ready", len(index), total, flush=True)
while True:
    key = rng.choice(index)
    rows[key] = dict(rows[key], score=rng.random())
    time.sleep(0.0001)
