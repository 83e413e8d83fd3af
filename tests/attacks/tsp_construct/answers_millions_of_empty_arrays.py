# output: an answer within the limit of bytes that holds 3,300,000 arrays of no length
import os
import struct

body = b"=" + b"i\0\0\0\0" * 3_300_000
rest = memoryview(struct.pack("<Q", len(body)) + body)
while rest:
    rest = rest[os.write(3, rest) :]
os._exit(0)
