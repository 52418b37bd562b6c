"""Becomes a command that the kernel lets make no perf events (seccomp says EACCES).

    without_perf.py COMMAND ARG...
"""
import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
PERF_EVENT_OPEN, EACCES = 298, 13  # x86-64
LOAD_NUMBER, SKIP_UNLESS, ANSWER = 0x20, 0x15, 0x06  # BPF
ERRNO, ALLOW = 0x00050000, 0x7FFF0000

rows = [(LOAD_NUMBER, 0, 0, 0), (SKIP_UNLESS, 0, 1, PERF_EVENT_OPEN),
        (ANSWER, 0, 0, ERRNO | EACCES), (ANSWER, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


libc = ctypes.CDLL(None)
libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
program = Filter(len(rows), ctypes.addressof(code))
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
    sys.exit("seccomp is not to be had")
os.execvp(sys.argv[1], sys.argv[1:])
