# output, runtime: a reason of lists nested as deep as the interpreter goes
import os
import struct

body = b'!{"status": "runtime", "reason": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
rest = memoryview(struct.pack("<Q", len(body)) + body)
while rest:
    rest = rest[os.write(3, rest) :]
os._exit(0)
