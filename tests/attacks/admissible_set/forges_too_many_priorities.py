# output: more priorities than there are candidates
import os
import struct

body = b"=" + struct.pack("<cI", b"f", 100_000) + bytes(800_000)
rest = memoryview(struct.pack("<Q", len(body)) + body)
while rest:
    rest = rest[os.write(3, rest) :]
os._exit(0)
