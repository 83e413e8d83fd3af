# output: more operations than there are
import os
import struct

body = b"=" + struct.pack("<cI61q", b"i", 61, *([j for j in range(10) for _ in range(6)] + [0])) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
