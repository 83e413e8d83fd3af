# output: an array that says it is longer than the answer
import os
import struct

body = b"=" + struct.pack("<cI", b"i", 2**32 - 1) + bytes(400)
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
