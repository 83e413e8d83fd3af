# infeasible: tours that stay in city 0
import os
import struct

body = b"=" + (struct.pack("<cI", b"i", 50) + bytes(400)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
