import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { entryPage } from '../../shared/protocol/operator.ts';
import { Child, run, type RunResult } from './child.ts';
import { asUser, curl, isListening, readAccessLog, startNginx, type CurlAnswer } from './programs.ts';
import { Shop, SHOP_USERS, type ShopOptions } from './shop.ts';
import { waitUntil } from './wait.ts';
import type { TestHost } from './netns.ts';

/** Ports of `store` whose programs are connected from the caller's address; that of `excluded`, which nginx has too, is not registered. */
export const TRANSPARENT_PORTS = {
  http: 8081,
  http2: 8082,
  excluded: 8083,
  bytes: 9000,
  postgres: 5432,
} as const;

/** Whoever comes, comes in. */
const POLICY = 'package picket.authz\n\ndefault allow := true\n';
const COUNTER_UID = 7300;

/** Reads all that comes until its end, then says from whom it was and how much, and as much again. */
const COUNTER = `
import socket, sys, threading
def serve(c, peer):
    with c:
        count = 0
        while data := c.recv(1 << 16):
            count += len(data)
        c.sendall(f"{peer[0].removeprefix('::ffff:')} {count}\\n".encode())
        for _ in range(count >> 16):
            c.sendall(bytes(1 << 16))
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    threading.Thread(target=serve, args=s.accept(), daemon=True).start()
`;
/** Sends so many pieces of 64 KiB, ends its side, and prints the first line of the answer and how many bytes came behind it. */
const SENDER = `
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
for _ in range(int(sys.argv[3])):
    s.sendall(bytes(1 << 16))
s.shutdown(socket.SHUT_WR)
answer = s.makefile("rb")
line = answer.readline().decode().strip()
count = 0
while data := answer.read(1 << 16):
    count += len(data)
print(line, count)
`;

/** The shop with programs on `store` that are to see who calls: nginx for HTTP/1.1 and HTTP/2, PostgreSQL, and one that counts bytes. */
export class TransparentShop {
  readonly shop: Shop;
  readonly #stack: AsyncDisposableStack;

  private constructor(shop: Shop, stack: AsyncDisposableStack) {
    this.shop = shop;
    this.#stack = stack;
  }

  static async open(options: ShopOptions = {}): Promise<TransparentShop> {
    await using stack = new AsyncDisposableStack();
    const shop = await Shop.open(options);
    stack.defer(async () => await shop.close());
    const { host } = shop.store;
    const { http, http2, excluded, bytes } = TRANSPARENT_PORTS;
    const nginx = await startNginx(host, {
      folder: join(shop.folder, 'nginx-transparent'),
      locations: 'location / { default_type text/plain; return 200 "from $remote_addr\\n"; }',
      listen: [`${http}`, `[::]:${http}`, `${http2} http2`, `[::]:${http2} http2`, `${excluded}`],
    });
    stack.defer(async () => void (await nginx.stop()));
    const counter = new Child({
      command: host.in(...asUser(COUNTER_UID, '/usr/bin/python3', '-c', COUNTER, String(bytes))),
      logFile: join(shop.folder, 'counter.log'),
      cwd: '/',
    });
    stack.defer(async () => void (await counter.stop('SIGKILL')));
    for (const port of [http, http2, excluded, bytes])
      await waitUntil(`somebody listens at ${port}`, async () => await isListening(host, port));
    const opened = new TransparentShop(shop, stack.move());
    await opened.#register();
    return opened;
  }

  /** The address of nginx's client as nginx says it, or what went wrong. */
  async ask(url: string, ...args: readonly string[]): Promise<CurlAnswer> {
    return await curl(this.shop.desk.host, { uid: SHOP_USERS.web, args: [url, ...args] });
  }

  /** Sends pieces of 64 KiB to the program that counts; its answer: who called, bytes that it got, bytes that came back. */
  async send(address: string, pieces: number): Promise<RunResult> {
    const sender = [
      '/usr/bin/python3',
      '-c',
      SENDER,
      address,
      String(TRANSPARENT_PORTS.bytes),
      String(pieces),
    ];
    return await run(this.shop.desk.host.in(...asUser(SHOP_USERS.web, ...sender)), {
      cwd: '/',
      withinMs: 90_000,
    });
  }

  /** What nginx wrote down of its last requests: client address and request. */
  async accessLog(): Promise<readonly string[]> {
    return await readAccessLog(join(this.shop.folder, 'nginx-transparent'));
  }

  /** Puts other listeners in the place of those of /invoices. */
  async registerInvoices(listen: readonly string[]): Promise<void> {
    await this.#updateListeners('/invoices', listen);
  }

  async close(): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #register(): Promise<void> {
    const { mesh, store, folder } = this.shop;
    const { http, http2, bytes, postgres } = TRANSPARENT_PORTS;
    const policy = join(folder, 'transparent-policy');
    mkdirSync(policy, { recursive: true });
    writeFileSync(join(policy, 'policy.rego'), POLICY);
    await mesh.control.picketOk('policy', 'publish', policy, '-m', 'everybody');
    await this.registerInvoices(['80', `${http}/http/transparent`, `${http2}/auto/transparent`]);
    await this.#updateListeners('/database', [`${postgres}/auto/transparent`]);
    await mesh.register({
      path: '/counter',
      on: store,
      selectors: [`unix:uid:${COUNTER_UID}`],
      listen: [`${bytes}/tcp/transparent`],
    });
    const url = `http://${store.host.ipv4}:${http}/`;
    await waitUntil('it is registered', async () => (await this.ask(url)).status === 200, 30_000);
    await waitUntil('all is', async () => (await this.send(store.host.ipv4, 0)).exitCode === 0, 30_000);
  }

  async #updateListeners(path: string, listen: readonly string[]): Promise<void> {
    const { control } = this.shop.mesh;
    const { items } = await control.picketJson(entryPage, 'entry', 'list');
    const found = items.find(({ spiffeId }) => spiffeId === `spiffe://example.org${path}`);
    const options = listen.flatMap((each) => ['--listen', each]);
    await control.picketOk('entry', 'update', found?.entryId ?? '', ...options);
  }
}

/** All rules of policy routing and routes of a host that Picket made. */
export async function returnRoutesOf(host: TestHost): Promise<string> {
  const shown = await Promise.all(
    ['-4', '-6'].flatMap((family) => [
      host.runOk('ip', family, 'rule', 'list'),
      host.runOk('ip', family, 'route', 'show', 'table', 'all'),
    ]),
  );
  const lines = shown.join('').split('\n');
  return lines.filter((line) => /\bproto 80\b/.test(line)).join('\n');
}
