/** A WebSocket server: bun -e THIS PORT. It speaks first, then gives everything back, and prints how each connection ended. */

const server = Bun.serve({
  port: Number(process.argv.at(-1)),
  hostname: '::',
  fetch: (request, self) =>
    self.upgrade(request) ? undefined : new Response('no WebSocket\n', { status: 426 }),
  websocket: {
    maxPayloadLength: 64 << 20,
    perMessageDeflate: true,
    open: (socket) => void socket.send('welcome'),
    message: (socket, message) => void socket.send(message),
    close: (_socket, code, reason) => console.log(`closed ${code} ${reason}`),
  },
});
console.log(`listening ${server.port}`);
