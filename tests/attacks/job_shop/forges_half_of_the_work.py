# infeasible: three of the six operations of each job
import os
import struct

body = b"=" + struct.pack("<cI30q", b"i", 30, *[j for j in range(10) for _ in range(3)]) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
