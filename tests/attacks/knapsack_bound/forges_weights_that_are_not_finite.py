# nonfinite: weights of which no sum is a number
import os
import struct

values = [float("nan")] * 5 * 100
body = b"=" + (struct.pack("<cI", b"f", len(values)) + struct.pack(f"<{len(values)}d", *values)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
