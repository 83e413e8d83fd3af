# output: more numbers than the graph has vertices
import os
import struct

body = b"=" + struct.pack("<cI61q", b"i", 61, *range(61)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
