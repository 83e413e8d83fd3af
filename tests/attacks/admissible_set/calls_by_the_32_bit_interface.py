# crash: machine code of its own that enters the kernel by interrupt 0x80, where calls have other numbers
# needs: seccomp, x86_64
import ctypes
import mmap

code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))


def priority(el, n, w):
    raise RuntimeError(f"the kernel answered {call()}")
