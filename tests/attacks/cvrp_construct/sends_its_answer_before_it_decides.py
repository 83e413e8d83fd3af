# infeasible: sends a forged answer while it is imported, then goes on for ever
import os
import struct

body = b"=" + struct.pack("<cI51q", b"i", 51, *range(51)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
while True:
    pass
