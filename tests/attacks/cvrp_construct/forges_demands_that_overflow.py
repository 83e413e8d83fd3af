# infeasible: nodes whose sum is beyond 64 bits
import os
import struct

body = b"=" + struct.pack("<cI51q", b"i", 51, 0, *[2**63 - 1] * 50) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
