# infeasible: vertices that numpy would count from the end
import os
import struct

body = b"=" + struct.pack("<cI30q", b"i", 30, *range(-30, 0)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
