# output: a failure that is a number, in JSON that only Python reads
import os
import struct

body = b"!-Infinity"
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
