/**
 * Opens one tunnel by extended CONNECT (RFC 8441) for each path, all on one connection, says lines in it, and prints what became of each as JSON. For Node.js.
 * Usage: extended-connect-client URL PATH...
 */
import { once } from 'node:events';
import {
  connect,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2';

const LINES = 200;
const [url = '', ...paths] = process.argv.slice(2);
const session = connect(url);
// The first SETTINGS are the agent's, those of the application follow.
do await once(session, 'remoteSettings');
while (session.remoteSettings.enableConnectProtocol !== true);
console.log(JSON.stringify(await Promise.all(paths.map(tunnel))));
session.close();

async function tunnel(path: string): Promise<unknown> {
  const names = { ':protocol': 'websocket', ':scheme': 'http', ':authority': 'tunnel.test' };
  const stream = session.request({ ':method': 'CONNECT', ':path': path, ...names }, { endStream: false });
  let heard = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => (heard += text));
  const ended = once(stream, 'end');
  const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders & IncomingHttpStatusHeader];
  const said = headers[':status'] === 200 ? await sayLines(stream) : '';
  stream.end();
  await ended;
  return { path, status: headers[':status'], caller: headers['x-caller'], isWhole: heard === `${said}bye` };
}

async function sayLines(stream: ClientHttp2Stream): Promise<string> {
  let said = '';
  for (let line = 1; line <= LINES; line++) {
    const text = `${line} ${'.'.repeat(1000)}\n`;
    said += text;
    if (!stream.write(text)) await once(stream, 'drain');
  }
  return said;
}
