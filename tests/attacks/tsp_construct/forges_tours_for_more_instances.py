# output: right tours, but nine for eight instances
import os
import struct

body = b"=" + struct.pack("<cI50q", b"i", 50, *range(50)) * 9
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
