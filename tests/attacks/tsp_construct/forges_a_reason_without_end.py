# output, runtime: a reason of 16 MB that is a list of five million lists
import os
import struct

body = b'!{"status": "runtime", "reason": [' + b"[]," * 5_500_000 + b"0]}"
rest = memoryview(struct.pack("<Q", len(body)) + body)
while rest:
    rest = rest[os.write(3, rest) :]
os._exit(0)
