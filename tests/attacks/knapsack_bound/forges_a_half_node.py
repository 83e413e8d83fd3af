# output: weights for half of the constraints of the last node
import os
import struct

values = [1.0] * 503
body = b"=" + (struct.pack("<cI", b"f", len(values)) + struct.pack(f"<{len(values)}d", *values)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
