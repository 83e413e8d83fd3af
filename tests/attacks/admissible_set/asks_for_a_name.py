# forbidden, runtime: an answer of the domain name system, which could carry data out
import socket


def priority(el, n, w):
    return len(socket.getaddrinfo("example.org", 80))
