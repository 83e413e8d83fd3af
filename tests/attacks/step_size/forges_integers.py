# output: steps of another kind
import os
import struct

values = [1] * 500
body = b"=" + (struct.pack("<cI", b"i", len(values)) + struct.pack(f"<{len(values)}q", *values)) * 6
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
