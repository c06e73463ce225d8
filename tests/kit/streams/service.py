"""Says numbers, one a line, every INTERVAL_MS, counted for each connection, for as long as it lasts: at TCP_PORT to whoever connects, at HTTP_PORT in chunks of an answer."""
import asyncio
import sys

tcp_port, http_port, interval = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) / 1000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
talks = {}


def say(writer):
    talks[writer] += 1
    line = b"%d\n" % talks[writer]
    if writer.is_http:
        line = b"%x\r\n%s\r\n" % (len(line), line)
    try:
        writer.write(line)
    except Exception:
        talks.pop(writer, None)


async def talk(reader, writer, is_http):
    writer.is_http = is_http
    try:
        if is_http:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD)
        talks[writer] = 0
        say(writer)
        while await reader.read(4096):
            pass
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        talks.pop(writer, None)
        writer.close()


async def main():
    for port, is_http in ((tcp_port, False), (http_port, True)):
        await asyncio.start_server(lambda r, w, h=is_http: talk(r, w, h), "0.0.0.0", port, backlog=4096)
    while True:
        await asyncio.sleep(interval)
        for writer in list(talks):
            say(writer)


asyncio.run(main())
