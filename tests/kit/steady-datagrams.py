"""Steady flows of UDP for tests. Each datagram is a text of its own, to an echo; what became of each is told at SIGTERM, as one line of JSON.

`stream`: one socket, one datagram after the other. `begin`: a new socket each time, which sends until it is answered, or for a minute.
"""

import json
import select
import signal
import socket
import sys
import time

how, address, port, every, text = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
# Rarely: who waits for many answers must not ask more than his share.
AGAIN = 0.25
# On a machine that has no time for the agent, what it is asked waits for long.
PATIENCE = 60
is_over = False


def end(*_):
    global is_over
    is_over = True


def opened():
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(("0.0.0.0", 0))
    return own


def send(own, data):
    try:
        own.sendto(data.encode(), (address, port))
    except OSError:
        # As if it were lost on the way.
        pass


def stream():
    own, number, answered = opened(), 0, set()
    due = last_answer = time.monotonic()
    while not is_over or time.monotonic() < last_answer:
        if not is_over and time.monotonic() >= due:
            send(own, f"{text} {number}")
            number, due, last_answer = number + 1, due + every, time.monotonic() + 1
        if select.select([own], [], [], 0.005)[0]:
            answered.add(int(own.recv(100).split()[1]))
    gaps, begun = [], None
    for each in range(number + 1):
        if each < number and each not in answered:
            begun = each if begun is None else begun
        elif begun is not None:
            gaps.append([begun, each - begun])
            begun = None
    return {"port": own.getsockname()[1], "sent": number, "gaps": gaps}


def begin():
    flows, waiting = [], {}
    due = time.monotonic()
    while not is_over or waiting:
        now = time.monotonic()
        if not is_over and now >= due:
            own = opened()
            waiting[own] = {"port": own.getsockname()[1], "begun": now, "tries": 0, "due": now}
            due += every
        for own, flow in list(waiting.items()):
            if now - flow["begun"] > PATIENCE:
                flows.append([flow["port"], -1])
                waiting.pop(own).clear()
                own.close()
            elif now >= flow["due"]:
                send(own, f"{text} {flow['port']}")
                flow["tries"] += 1
                flow["due"] = now + AGAIN
        for own in select.select(list(waiting), [], [], 0.005)[0]:
            own.recv(100)
            flow = waiting.pop(own)
            flows.append([flow["port"], flow["tries"]])
            own.close()
    return {"flows": flows}


signal.signal(signal.SIGTERM, end)
print("started", flush=True)
print(json.dumps(stream() if how == "stream" else begin()), flush=True)
