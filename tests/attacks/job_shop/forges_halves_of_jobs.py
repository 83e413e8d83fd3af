# output: jobs that are no integers
import os
import struct

body = b"=" + struct.pack("<cI60d", b"f", 60, *[j + 0.5 for j in range(10) for _ in range(6)]) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
