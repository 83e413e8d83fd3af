# output: weights of another kind
import os
import struct

values = [1] * 5 * 100
body = b"=" + (struct.pack("<cI", b"i", len(values)) + struct.pack(f"<{len(values)}q", *values)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
