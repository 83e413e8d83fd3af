# infeasible: steps back in time
import os
import struct

values = [-0.1] * 500
body = b"=" + (struct.pack("<cI", b"f", len(values)) + struct.pack(f"<{len(values)}d", *values)) * 6
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
