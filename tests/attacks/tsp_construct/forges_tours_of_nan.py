# output: tours of floating point numbers that are no numbers
import os
import struct

body = b"=" + (struct.pack("<cI", b"f", 50) + struct.pack("<d", float("nan")) * 50) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
