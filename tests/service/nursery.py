"""Forks programs from one that has loaded all they need: Python and numpy take half a second to load.

A client connects to the nursery's socket and sends an environment, arguments and its standard
files; it hears the number of the new process, and in the end its exit code.
"""

import os
import select
import signal
import socket
import struct
import sys

NUMBER = struct.Struct("<I")


def order(path, environment, arguments, files):
    """Have a program forked; gives its process and a connection that will tell its exit code."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    pairs = "\0".join(f"{name}={value}" for name, value in environment.items())
    told = (pairs + "\0\0" + "\0".join(arguments)).encode()
    socket.send_fds(connection, [NUMBER.pack(len(told)) + told], files)
    return NUMBER.unpack(connection.recv(NUMBER.size))[0], connection


def run(path, live):
    """Fork *live* for every order, until standard input ends; it is given the arguments."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(128)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                os._exit(born(connection, live))
            connection.close()


def born(connection, live):
    """Be the program that was ordered; gives, and tells, its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    (size,) = NUMBER.unpack_from(told)
    while len(told) < NUMBER.size + size:
        told += connection.recv(1 << 16)
    environment, arguments = told[NUMBER.size :].decode().split("\0\0")
    os.environ.clear()
    os.environ.update(pair.split("=", 1) for pair in environment.split("\0"))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    connection.send(NUMBER.pack(os.getpid()))
    os.register_at_fork(after_in_child=connection.close)
    code = 0
    try:
        live([each for each in arguments.split("\0") if each])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(bytes((code,)))
    return code
