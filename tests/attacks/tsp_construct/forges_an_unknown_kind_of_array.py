# output: an array of Python objects, by their addresses
import os
import struct

body = b"=" + (struct.pack("<cI", b"O", 50) + struct.pack("<q", id(os)) * 50) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
