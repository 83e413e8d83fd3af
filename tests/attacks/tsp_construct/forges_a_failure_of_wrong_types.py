# output: a failure whose status is a list that compares equal to nothing
import os
import struct

body = b'!{"status": ["ok"], "reason": {"score": 1}}'
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
