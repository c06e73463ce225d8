/** Takes tunnels by extended CONNECT (RFC 8441) and gives back what comes through them. For Node.js. Usage: extended-connect-server PORT */
import { createServer, type ServerHttp2Stream } from 'node:http2';

const server = createServer({ settings: { enableConnectProtocol: true } });
server.on('stream', (stream: ServerHttp2Stream, headers) => {
  if (headers[':method'] !== 'CONNECT' || headers[':protocol'] !== 'websocket') {
    stream.respond({ ':status': 400 }, { endStream: true });
    return;
  }
  const caller = /URI=([^;,]*)/.exec(String(headers['x-forwarded-client-cert']))?.[1];
  stream.respond({ ':status': 200, 'x-caller': caller });
  stream.on('data', (bytes: Buffer) => stream.write(bytes));
  stream.on('end', () => stream.end('bye'));
  stream.on('error', (error) => console.log(`${headers[':path']} ${error.message}`));
});
server.listen(Number(process.argv[2]), '::');
