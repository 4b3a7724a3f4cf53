# Load for memcached: values of 50 to 8,000 bytes under 200,000 keys, half of the operations writes, for ever.
import random
import socket
import sys

random.seed(1)
link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
replies = link.makefile("rb")


def value():
    return b"x" * int(min(8000, random.lognormvariate(6, 1)) + 50)


for turn in range(1 << 30):
    batch = b""
    for _ in range(100):
        v = value()
        batch += b"set k%d 0 0 %d noreply\r\n%s\r\n" % (random.randrange(200000), len(v), v)
    link.sendall(batch + b"get k1\r\n")
    while not replies.readline().startswith(b"END"):
        pass
    if turn == 8000:
        print("ready", flush=True)
