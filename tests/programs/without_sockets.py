"""Runs a program for which the kernel has no such sockets, as if it were built without them.

    without_sockets.py netfilter|inet6[,...] PROGRAM [ARGUMENT...]

`netfilter` is NETLINK_NETFILTER, by which nf_tables is reached; `inet6` is AF_INET6. A seccomp filter answers
socket(2) with the errno of such a kernel; the program's children inherit it.
"""

import ctypes
import os
import platform
import socket
import struct
import sys
from errno import EAFNOSUPPORT, EPROTONOSUPPORT

NETLINK_NETFILTER = 12
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}[platform.machine()]
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
# Offsets in struct seccomp_data: the call's number, and the low half of its first and third argument.
NUMBER, FAMILY, PROTOCOL = 0, 16, 32


def without(kinds):
    """For each kind: load, compare, and answer with an errno; whatever else is allowed."""
    program = [(LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 1, 0, SOCKET_CALL), (RETURN, 0, 0, ALLOW)]
    if "inet6" in kinds:
        program += [(LOAD, 0, 0, FAMILY), (JUMP_IF_EQUAL, 0, 1, socket.AF_INET6)]
        program += [(RETURN, 0, 0, ERRNO | EAFNOSUPPORT)]
    if "netfilter" in kinds:
        program += [(LOAD, 0, 0, FAMILY), (JUMP_IF_EQUAL, 0, 3, socket.AF_NETLINK)]
        program += [(LOAD, 0, 0, PROTOCOL), (JUMP_IF_EQUAL, 0, 1, NETLINK_NETFILTER)]
        program += [(RETURN, 0, 0, ERRNO | EPROTONOSUPPORT)]
    return program + [(RETURN, 0, 0, ALLOW)]


def install(program):
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = struct.pack("HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    # No PR_SET_NO_NEW_PRIVS, which would change what the program may do: this runs as root.
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0) != 0:
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")


install(without(sys.argv[1].split(",")))
os.execvp(sys.argv[2], sys.argv[2:])
