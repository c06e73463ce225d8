import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child } from '../../kit/child.ts';
import { asUser, isListening } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';

/** Another user of the host that takes a workload's port as soon as the workload gives it up. */

setDefaultTimeout(60_000);

const { web, nobody } = SHOP_USERS;
/** Is denied once, and asks for what is allowed when a line comes: the application was not connected before. */
const LATE_REQUEST = `
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=10)
def ask(method):
    connection.request(method, "/invoices")
    answer = connection.getresponse()
    print(answer.status, answer.read().decode(), flush=True)
ask("DELETE")
sys.stdin.readline()
connection.auto_open = 0
try:
    ask("GET")
except (OSError, http.client.HTTPException) as error:
    print(repr(error), flush=True)
`;
/** Takes port 80 and answers whoever comes. */
const THIEF = `
import http.server
class Thief(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"stolen")
http.server.HTTPServer(("", 80), Thief).serve_forever()
`;
const PYTHON = '/usr/bin/python3';

let shop: Shop;
beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

describe('a connection on which nothing was allowed yet', () => {
  test('does not lead to whoever has taken the port of the workload since', async () => {
    const { desk, store, folder } = shop;
    await using stack = new AsyncDisposableStack();
    const ask = desk.host.in(...asUser(web, PYTHON, '-uc', LATE_REQUEST, store.host.ipv4));
    const asking = Bun.spawn(ask, { stdin: 'pipe', stdout: 'pipe', cwd: '/' });
    let heard = '';
    const hearing = (async () => {
      for await (const bytes of asking.stdout) heard += Buffer.from(bytes).toString();
    })();
    await waitUntil('the first request is denied', () => heard.startsWith('403'));
    process.kill(Number(readFileSync(join(folder, 'nginx/nginx.pid'), 'utf8')));
    await waitUntil('the port is free', async () => !(await isListening(store.host, 80)));
    const privileges = ['--inh-caps=+net_bind_service', '--ambient-caps=+net_bind_service'];
    const [setpriv = '', ...as] = asUser(nobody, PYTHON, '-c', THIEF);
    const command = store.host.in(setpriv, ...privileges, ...as);
    const thief = new Child({ command, logFile: join(folder, 'thief.log') });
    stack.defer(async () => void (await thief.stop()));
    await waitUntil('the port is taken', async () => await isListening(store.host, 80));
    await asking.stdin.write('\n');
    await asking.stdin.end();
    await hearing;
    expect(heard).not.toContain('stolen');
    expect(thief.log()).not.toContain('GET /invoices');
    expect(heard.trimEnd().split('\n').at(-1)).toContain('listener_unidentified');
  });
});
