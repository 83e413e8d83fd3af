# output: vertices that are no integers
import os
import struct

body = b"=" + struct.pack("<cI30d", b"f", 30, *[i / 2 for i in range(30)]) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
