# forbidden: a TCP connection to this machine
import socket


def priority(el, n, w):
    socket.create_connection(("127.0.0.1", 22), timeout=1)
    return 0.0
