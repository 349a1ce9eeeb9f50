"""Free ports of this machine."""

import contextlib
import socket


def free():
    return several(1)[0]


def several(count):
    with contextlib.ExitStack() as taken:
        ports = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in ports:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in ports]
