# infeasible: tours of the integer whose absolute value is negative
import os
import struct

body = b"=" + (struct.pack("<cI", b"i", 50) + struct.pack("<q", -(2**63)) * 50) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
