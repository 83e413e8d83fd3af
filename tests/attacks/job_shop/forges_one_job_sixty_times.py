# infeasible: one job, sixty times, and no other
import os
import struct

body = b"=" + struct.pack("<cI60q", b"i", 60, *[0] * 60) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
