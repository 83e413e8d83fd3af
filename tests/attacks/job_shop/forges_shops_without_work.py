# output: schedules without an operation
import os
import struct

body = b"=" + struct.pack("<cI", b"i", 0) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
