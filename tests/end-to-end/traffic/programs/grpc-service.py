"""A gRPC server of grpc.aio: python3 -c THIS PORT. Messages are bytes. Prints what is called, and which chats are over."""
import asyncio
import json
import sys

import grpc


def told(context):
    return {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}


async def get(request, context):
    print('get', request.decode(), flush=True)
    context.set_trailing_metadata((('x-trailer', 'behind'), ('x-trailer-bin', b'\x00\xff')))
    return json.dumps(told(context)).encode()


async def fail(request, context):
    await context.abort(grpc.StatusCode.NOT_FOUND, 'no such order: 100% sure')


async def download(request, context):
    for _ in range(int(request)):
        yield bytes(1 << 20)


async def upload(requests, context):
    length = 0
    async for request in requests:
        length += len(request)
    return str(length).encode()


async def chat(requests, context):
    name = told(context).get('x-name')
    context.add_done_callback(lambda _: print('over', name, flush=True))
    async for request in requests:
        print('chat', request.decode(), flush=True)
        yield request[::-1]


METHODS = {
    'Get': grpc.unary_unary_rpc_method_handler(get),
    'Fail': grpc.unary_unary_rpc_method_handler(fail),
    'Download': grpc.unary_stream_rpc_method_handler(download),
    'Upload': grpc.stream_unary_rpc_method_handler(upload),
    'Chat': grpc.stream_stream_rpc_method_handler(chat),
}


async def main():
    server = grpc.aio.server(options=(('grpc.max_receive_message_length', -1),))
    handlers = (grpc.method_handlers_generic_handler(name, METHODS) for name in ('shop.Orders', 'refused'))
    server.add_generic_rpc_handlers(tuple(handlers))
    server.add_insecure_port(f'[::]:{sys.argv[1]}')
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
