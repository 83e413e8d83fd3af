# output: one walk of a million nodes, so that the table of all walks is large
import os
import struct

body = b"=" + struct.pack("<cI", b"i", 1_000_000) + bytes(8_000_000) + (struct.pack("<cI", b"i", 1) + bytes(8)) * 7
rest = memoryview(struct.pack("<Q", len(body)) + body)
while rest:
    rest = rest[os.write(3, rest) :]
os._exit(0)
