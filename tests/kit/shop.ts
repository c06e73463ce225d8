import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { run, type RunResult } from './child.ts';
import { prepareCapture, type CapturedHostOptions } from './captured-host.ts';
import { createMesh, type Mesh, type MeshOptions } from './mesh.ts';
import type { MeshHost } from './mesh-host.ts';
import type { TestHost } from './netns.ts';
import { asUser, curl, psql, readAccessLog, startNginx, startPostgres, type CurlAnswer } from './programs.ts';
import { waitUntil } from './wait.ts';

/** Users on the host `desk`: a number is a user. */
export const SHOP_USERS = { web: 7001, reports: 7002, nobody: 7003 } as const;

/** The body of a denied request. */
export const denialBody = z.object({ decision_id: z.uuid(), reason: z.string(), message: z.string() });

/** Bash that sends its first argument, with escapes, to PORT of HOST as raw bytes and prints the answer. */
const RAW_CLIENT = 'exec 3<>/dev/tcp/$2/$3; printf "%b" "$1" >&3; timeout 5 cat <&3';

const LOCATIONS = `
  location /invoices { default_type text/plain; return 200 "caller=$http_x_forwarded_client_cert\\n"; }
  location /invoices/trace { default_type text/plain; return 200 "$http_traceparent;$http_tracestate\n"; }
  location /refunds { return 201 "made"; }
  location /upload { root FOLDER; dav_methods PUT; create_full_put_path on; }`;

/** `settings` and `backend` are those of both agents. */
export interface ShopOptions extends CapturedHostOptions {
  /** As of a mesh. */
  readonly startDatabase?: MeshOptions['startDatabase'];
  /** More settings for the server. */
  readonly serverSettings?: MeshOptions['serverSettings'];
}

/**
 * A small mesh that most end-to-end tests play on: the host `store` has nginx (/invoices) and PostgreSQL (/database), the host `desk` has users that are /web
 * and /reports, the outsider has no Picket. The policy of policies/shop is in force.
 */
export class Shop {
  readonly folder: string;
  readonly mesh: Mesh;
  readonly store: MeshHost;
  readonly desk: MeshHost;
  readonly outsider: TestHost;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<Shop, 'folder' | 'mesh' | 'store' | 'desk' | 'outsider'>,
    stack: AsyncDisposableStack,
  ) {
    this.folder = parts.folder;
    this.mesh = parts.mesh;
    this.store = parts.store;
    this.desk = parts.desk;
    this.outsider = parts.outsider;
    this.#stack = stack;
  }

  /** Starts everything and waits until a request passes. */
  static async open(options: ShopOptions = {}): Promise<Shop> {
    await using stack = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'picket-shop-'));
    stack.defer(() =>
      process.env['KEEP'] === undefined ? rmSync(folder, { recursive: true, force: true }) : undefined,
    );
    // Other users have their own folders in it.
    chmodSync(folder, 0o711);
    const { startDatabase, serverSettings } = options;
    const mesh = await createMesh({
      folder: join(folder, 'mesh'),
      trustDomain: 'example.org',
      hosts: 4,
      ...(startDatabase === undefined ? {} : { startDatabase }),
      ...(serverSettings === undefined ? {} : { serverSettings }),
    });
    stack.defer(async () => await mesh.remove());
    const [, storeHost, deskHost, outsider] = mesh.network.hosts;
    if (storeHost === undefined || deskHost === undefined || outsider === undefined)
      throw new Error('The network has too few hosts');
    const [storePlace, deskPlace] = [
      await prepareCapture(storeHost, options, stack),
      await prepareCapture(deskHost, options, stack),
    ];
    await startPrograms(storePlace.host, folder, stack);
    const store = await mesh.joinHost(storePlace.host, 'store', storePlace.settings);
    const desk = await mesh.joinHost(deskPlace.host, 'desk', deskPlace.settings);
    await registerWorkloads(mesh, store, desk);
    const shop = new Shop({ folder, mesh, store, desk, outsider }, stack.move());
    await shop.#waitUntilOpen();
    return shop;
  }

  /** One request of a user on `desk` to the nginx of `store`. */
  async ask(uid: number, path: string, ...args: readonly string[]): Promise<CurlAnswer> {
    return await curl(this.desk.host, { uid, args: [`http://${this.store.host.ipv4}${path}`, ...args] });
  }

  /** One query of a user on `desk` to the PostgreSQL of `store`. */
  async query(uid: number, sql = 'select 1 + 1'): Promise<RunResult> {
    return await psql(this.desk.host, { uid, server: this.store.host.ipv4, sql });
  }

  /** Whether PostgreSQL is at work on that very query now. */
  async isQueried(sql: string): Promise<boolean> {
    const running = `select count(*) from pg_stat_activity where query = $q$${sql}$q$ and state = 'active'`;
    return (await this.query(SHOP_USERS.reports, running)).stdout === '1\n';
  }

  /** Sends bytes as they are from a user on `desk` to a port of `store`; what came back within five seconds. */
  async sendRaw(uid: number, bytes: string, port = 80): Promise<string> {
    const escaped = bytes.replaceAll('\r', String.raw`\r`).replaceAll('\n', String.raw`\n`);
    const script = ['bash', '-c', RAW_CLIENT, 'bash', escaped, this.store.host.ipv4, String(port)];
    return (await run(this.desk.host.in(...asUser(uid, ...script)), { cwd: '/' })).stdout;
  }

  /** What `picket why` tells a user on `desk` of the newest denial. */
  async why(uid: number): Promise<string> {
    return (await this.desk.picket(['why', '--last', '1', '--json'], { uid })).stdout;
  }

  /** What nginx has written down of all that it has answered. */
  async readNginxLog(): Promise<readonly string[]> {
    return await readAccessLog(join(this.folder, 'nginx'));
  }

  /** How many requests nginx has seen. */
  async countNginxRequests(): Promise<number> {
    return (await this.readNginxLog()).length;
  }

  async close(): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #waitUntilOpen(): Promise<void> {
    const policy = join(import.meta.dirname, 'policies/shop');
    await this.mesh.control.picketOk('policy', 'publish', policy, '-m', 'the shop');
    const { web, reports } = SHOP_USERS;
    await waitUntil(
      'requests pass',
      async () =>
        (await this.ask(web, '/invoices')).status === 200 && (await this.query(reports)).exitCode === 0,
      30_000,
    );
  }
}

async function startPrograms(host: TestHost, folder: string, stack: AsyncDisposableStack): Promise<void> {
  const nginxFolder = join(folder, 'nginx');
  const locations = LOCATIONS.replaceAll('FOLDER', nginxFolder);
  const nginx = await startNginx(host, { folder: nginxFolder, locations });
  stack.defer(async () => void (await nginx.stop()));
  const sql = 'create table t (n int);';
  const postgres = await startPostgres(host, { folder: join(folder, 'postgres'), sql });
  stack.defer(async () => void (await postgres.stop('SIGINT')));
}

async function registerWorkloads(mesh: Mesh, store: MeshHost, desk: MeshHost): Promise<void> {
  const { web, reports } = SHOP_USERS;
  await mesh.register({ path: '/invoices', on: store, selectors: ['unix:user:www-data'], listen: ['80'] });
  await mesh.register({ path: '/database', on: store, selectors: ['unix:user:postgres'], listen: ['5432'] });
  await mesh.register({ path: '/web', on: desk, selectors: [`unix:uid:${web}`] });
  await mesh.register({ path: '/reports', on: desk, selectors: [`unix:uid:${reports}`] });
}
