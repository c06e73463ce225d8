"""A gRPC client of grpc.aio: python3 -c THIS HOST:PORT WHAT [SECONDS]. Does one thing over one connection and prints as JSON what came of it."""
import asyncio
import json
import signal
import sys
import time

import grpc

TARGET, WHAT = sys.argv[1:3]
MIB = 1 << 20


def outcome(error):
    trailers = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, str)}
    return {'code': error.code().name, 'details': error.details(), 'trailers': trailers}


async def attempt(call):
    try:
        return (await call).decode()
    except grpc.aio.AioRpcError as error:
        return outcome(error)


async def unary(channel):
    call = channel.unary_unary('/shop.Orders/Get')(b'one', metadata=(('x-name', 'value'), ('x-forwarded-client-cert', 'URI=spiffe://example.org/admin')))
    seen = json.loads(await call)
    trailers = {key: value.hex() if isinstance(value, bytes) else value for key, value in await call.trailing_metadata()}
    return {'seen': seen, 'trailers': trailers, 'error': await attempt(channel.unary_unary('/shop.Orders/Fail')(b''))}


async def streams(channel):
    got = 0
    async for message in channel.unary_stream('/shop.Orders/Download')(b'64'):
        got += len(message)

    async def pieces():
        for _ in range(64):
            yield bytes(MIB)

    sent = int(await channel.stream_unary('/shop.Orders/Upload')(pieces()))
    chat = channel.stream_stream('/shop.Orders/Chat')()
    answers = []
    for word in (b'abc', b'def'):
        await chat.write(word)
        answers.append((await chat.read()).decode())
    await chat.done_writing()
    return {'got': got, 'sent': sent, 'answers': answers, 'end': (await chat.code()).name}


async def refusals(channel):
    """Refused calls, with bodies that nobody reads, among allowed ones."""
    body = bytes(300_000)
    methods = ['/refused/Get' if i % 2 else '/shop.Orders/Get' for i in range(200)]
    calls = [channel.unary_unary(method)(body if 'refused' in method else b'x') for method in methods]
    results = await asyncio.gather(*(attempt(call) for call in calls))
    refused = [result for method, result in zip(methods, results) if 'refused' in method]
    allowed = [result for method, result in zip(methods, results) if 'refused' not in method]
    return {
        'refused': sorted({each['code'] + ' ' + each['details'] for each in refused}),
        'reasons': sorted({each['trailers']['picket-reason'] for each in refused}),
        'ids': len({each['trailers']['picket-decision-id'] for each in refused}),
        'allowed': sum(isinstance(each, str) for each in allowed),
    }


async def cancel(channel):
    chat = channel.stream_stream('/shop.Orders/Chat')(metadata=(('x-name', 'given-up'),))
    await chat.write(b'hello')
    await chat.read()
    chat.cancel()
    late = channel.unary_unary('/shop.Orders/Get')
    return {'after': isinstance(await attempt(late(b'after')), str)}


async def hold(channel):
    """Two calls of one connection; says that both are open, and ends the second when the first was cut."""
    chat = channel.stream_stream('/shop.Orders/Chat')(metadata=(('x-name', 'cut'),))
    await chat.write(b'hello')
    first = (await chat.read()).decode()
    kept = channel.stream_unary('/shop.Orders/Upload')()
    await kept.write(b'x' * 1000)
    print('open', flush=True)
    try:
        while await chat.read() is not grpc.aio.EOF:
            pass
        cut = (await chat.code()).name
    except grpc.aio.AioRpcError as error:
        cut = error.code().name
    await kept.write(b'x' * 1000)
    await kept.done_writing()
    return {'first': first, 'cut': cut, 'kept': int(await kept)}


async def steady(channel):
    """Calls one after another, four at once, for so many seconds as the third argument says, or until SIGTERM."""
    end = time.monotonic() + float(sys.argv[3])
    results = []
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)

    async def caller():
        get = channel.unary_unary('/shop.Orders/Get')
        while time.monotonic() < end and not is_over.is_set():
            results.append(await attempt(get(b'steady')))
            await asyncio.sleep(0.02)

    await asyncio.gather(*(caller() for _ in range(4)))
    return {'answered': len(results), 'failed': [each for each in results if not isinstance(each, str)][:3]}


async def main():
    options = (('grpc.max_receive_message_length', -1), ('grpc.enable_retries', 0))
    async with grpc.aio.insecure_channel(TARGET, options=options) as channel:
        print(json.dumps(await globals()[WHAT](channel)), flush=True)


asyncio.run(asyncio.wait_for(main(), 45 + float(sys.argv[3] if len(sys.argv) > 3 else 0)))
