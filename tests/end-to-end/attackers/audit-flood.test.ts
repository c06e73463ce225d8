import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { Child } from '../../kit/child.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';

/** Somebody who may do nothing has so much denied that the record of it has no room: those who may do something go on. */

setDefaultTimeout(120_000);

const { web } = SHOP_USERS;
/** The least that may be configured. */
const MAX_BYTES = 16 * 1024 * 1024;
const REQUESTS = 20;
/** Asks for what is denied without end, by long paths that fill and short ones that fill the rest. */
const FLOOD = `
import socket, sys, threading
def request(path):
    return f"GET /{path} HTTP/1.1\\r\\nHost: shop\\r\\n\\r\\n".encode()
flood = request("x" * 7900) * 16 + request("x") * 64
def read(connection):
    while connection.recv(1 << 20): pass
while True:
    connection = socket.create_connection((sys.argv[1], 80))
    threading.Thread(target=read, args=(connection,), daemon=True).start()
    while True: connection.sendall(flood)
`;

let shop: Shop;
beforeAll(async () => {
  shop = await Shop.open({ settings: { audit: { max_bytes: MAX_BYTES } } });
}, 120_000);
afterAll(async () => await shop.close());

async function countRefused(): Promise<number> {
  const text = await shop.store.host.runOk('curl', '-sf', 'http://127.0.0.1:15020/metrics');
  return Number(/^picket_audit_refused_total (\d+)$/m.exec(text)?.[1]);
}

describe('a stranger whose denials fill the record', () => {
  test('keeps nobody from what the policy allows, with the server away', async () => {
    await shop.mesh.control.stop('SIGKILL');
    const command = shop.outsider.in('/usr/bin/python3', '-c', FLOOD, shop.store.host.ipv4);
    const flood = new Child({ command, logFile: join(shop.folder, 'flood.log') });
    try {
      await waitUntil('there is no room', async () => (await countRefused()) > 0, 60_000);
      const statuses: number[] = [];
      for (let i = 0; i < REQUESTS; i++) statuses.push((await shop.ask(web, '/invoices')).status);
      expect(flood.isRunning).toBe(true);
      expect(new Set(statuses)).toEqual(new Set([200]));
    } finally {
      await flood.stop();
    }
    expect(shop.store.log()).toContain('audit_denials_refused');
  });
});
