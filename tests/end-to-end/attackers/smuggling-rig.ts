import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child, runOk } from '../../kit/child.ts';
import { asUser, isListening, readAccessLog, startNginx } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';

const NGINX_PORT = 8080;
const ROGUE_PORT = 8081;
const ROGUE_USER = 7030;
/** For the first byte of an answer, and all of one behind which the connection is to be closed, in seconds. */
const PATIENT_SECONDS = 20;
/** How long nothing may come behind that before any other answer counts as complete. */
const QUIET_SECONDS = 1.5;

/** `/redirect` is a mistake that real sites make: it repeats the decoded path in a header. */
const LOCATIONS = `
  location /upload/ { return 200 "uploaded"; }
  location /secret { return 201 "secret"; }
  location /redirect { return 302 http://$host$uri; }
  location / { return 200 "identity=$http_x_forwarded_client_cert|"; }`;

const program = (name: string): string => readFileSync(join(import.meta.dirname, 'programs', name), 'utf8');

/** A shop with two more applications on `store`, both /invoices: an nginx on 8080, and one that answers whatever it is told to. */
export class SmugglingRig {
  readonly shop: Shop;
  readonly #stack: AsyncDisposableStack;

  private constructor(shop: Shop, stack: AsyncDisposableStack) {
    this.shop = shop;
    this.#stack = stack;
  }

  static async open(): Promise<SmugglingRig> {
    await using stack = new AsyncDisposableStack();
    // What is recorded of a path is compared to the byte.
    const shop = await Shop.open({ settings: { audit: { queries: 'full' } } });
    stack.defer(async () => await shop.close());
    const { store } = shop;
    const nginx = await startNginx(store.host, {
      folder: join(shop.folder, 'nginx-two'),
      locations: LOCATIONS,
      listen: [String(NGINX_PORT)],
    });
    stack.defer(async () => void (await nginx.stop()));
    const rogue = new Child({
      command: store.host.in(
        ...asUser(ROGUE_USER, '/usr/bin/python3', '-c', program('rogue-application.py'), String(ROGUE_PORT)),
      ),
      logFile: join(shop.folder, 'rogue.log'),
      cwd: '/',
    });
    stack.defer(async () => void (await rogue.stop('SIGKILL')));
    await rogue.ready('the rogue listens', async () => await isListening(store.host, ROGUE_PORT));
    const workload = { path: '/invoices', on: store };
    const nginxSelectors = ['unix:user:www-data', 'unix:group:www-data'];
    await shop.mesh.register({ ...workload, selectors: nginxSelectors, listen: [String(NGINX_PORT)] });
    const rogueSelectors = [`unix:uid:${ROGUE_USER}`];
    await shop.mesh.register({ ...workload, selectors: rogueSelectors, listen: [String(ROGUE_PORT)] });
    const rig = new SmugglingRig(shop, stack.move());
    await waitUntil('both are reached', async () => {
      const good = await rig.send('GET /ready HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n');
      return (
        good.includes('200 OK') && (await rig.askRogue('HTTP/1.1 204 No Content\r\n\r\n')).includes(' 204 ')
      );
    });
    return rig;
  }

  /** Sends `text` (Latin-1) as /web to nginx; what came back. */
  async send(text: string, port = NGINX_PORT): Promise<string> {
    const { desk, store } = this.shop;
    const hex = Buffer.from(text, 'latin1').toString('hex');
    const quiet = text.endsWith('Connection: close\r\n\r\n') ? PATIENT_SECONDS : QUIET_SECONDS;
    const args = [store.host.ipv4, String(port), hex, String(PATIENT_SECONDS), String(quiet)];
    const client = asUser(SHOP_USERS.web, '/usr/bin/python3', '-c', program('raw-client.py'), ...args);
    return Buffer.from(await runOk(desk.host.in(...client), { cwd: '/' }), 'hex').toString('latin1');
  }

  /** What /web gets when the application answers `text` (Latin-1). */
  async askRogue(text: string, following = ''): Promise<string> {
    const hex = Buffer.from(text, 'latin1').toString('hex');
    return await this.send(`GET /${hex} HTTP/1.1\r\nHost: shop\r\n\r\n${following}`, ROGUE_PORT);
  }

  /** The request lines that nginx saw, in order. */
  async requestLines(): Promise<readonly string[]> {
    const lines = await readAccessLog(join(this.shop.folder, 'nginx-two'));
    return lines.map((line) => /\] "([^"]*)"/.exec(line)?.[1] ?? line);
  }

  async close(): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
