# output: a failure whose status is ok
import os
import struct

body = b'!{"status": "ok", "reason": "", "score": 0.0, "costs": [0, 0, 0, 0, 0, 0, 0, 0]}'
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
