import { expect } from 'bun:test';
import { join } from 'node:path';
import { decisionsBelow } from '../../kit/access-records.ts';
import { asUser } from '../../kit/programs.ts';
import { SHOP_USERS, type Shop } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';

const { web } = SHOP_USERS;
const TARGET = 'spiffe://example.org/invoices';
let loadsMade = 0;

/**
 * Requests of the shop that go on while something bad happens: allowed ones and denied ones in turn, each with a path of its own, and one upload that never
 * pauses for long.
 */
export class SteadyLoad {
  readonly #shop: Shop;
  readonly #name = `load-${++loadsMade}`;
  readonly #allowed = new Map<string, string>();
  readonly #denied = new Map<string, string>();
  readonly #done = new AbortController();
  readonly #run: Promise<void>;

  private constructor(shop: Shop) {
    this.#shop = shop;
    this.#run = this.#go();
  }

  /** Does `work` under the load. Afterwards not one request was lost, refused, wrongly allowed, or recorded other than once. */
  static async during(shop: Shop, work: () => Promise<void>): Promise<void> {
    const load = new SteadyLoad(shop);
    try {
      await work();
    } finally {
      load.#done.abort();
      await load.#run;
    }
    await load.#expectServed();
    await load.#expectRecorded();
  }

  async #go(): Promise<void> {
    const upload = Bun.spawn(this.#shop.desk.host.in(...asUser(web, ...this.#uploading())), {
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    let sent = '';
    for (let turn = 1; !this.#done.signal.aborted; turn++) {
      const [allowed, denied] = [`/invoices/${this.#name}-${turn}`, `/refunds/${this.#name}-${turn}`];
      const line = `${turn} ${'.'.repeat(1000)}\n`;
      void upload.stdin.write(line);
      void upload.stdin.flush();
      sent += line;
      this.#allowed.set(allowed, await this.#ask(allowed));
      this.#denied.set(denied, await this.#ask(denied, '-X', 'POST'));
    }
    await upload.stdin.end();
    const told = `${await new Response(upload.stdout).text()}${await new Response(upload.stderr).text()}`;
    const arrived = await Bun.file(join(this.#shop.folder, 'nginx', this.#uploadPath)).text();
    this.#allowed.set(
      this.#uploadPath,
      arrived === sent ? told : `${told}: ${arrived.length} of ${sent.length}`,
    );
  }

  get #uploadPath(): string {
    return `/upload/${this.#name}`;
  }

  #uploading(): readonly string[] {
    const url = `http://${this.#shop.store.host.ipv4}${this.#uploadPath}`;
    return ['curl', '-sS', '-T', '-', '-w', '%{http_code}', url];
  }

  async #ask(path: string, ...args: readonly string[]): Promise<string> {
    const { status, error } = await this.#shop.ask(web, path, ...args);
    return `${status}${error}`;
  }

  async #expectServed(): Promise<void> {
    expect([...this.#allowed].filter(([, answer]) => answer !== '200' && answer !== '201')).toEqual([]);
    expect([...this.#denied].filter(([, answer]) => answer !== '403')).toEqual([]);
    expect(this.#allowed.size).toBeGreaterThan(3);
  }

  async #expectRecorded(): Promise<void> {
    const expected = [
      ...Array.from(this.#allowed.keys(), (path) => `allow ${path}`),
      ...Array.from(this.#denied.keys(), (path) => `deny ${path}`),
    ];
    const read = async (): Promise<readonly string[]> =>
      (await decisionsBelow(this.#shop.mesh.control, TARGET, '/'))
        .filter(({ path }) => path?.includes(this.#name) === true)
        .map(({ decision, path }) => `${decision} ${path}`);
    await waitUntil('all is recorded', async () => (await read()).length >= expected.length, 60_000);
    expect((await read()).toSorted()).toEqual(expected.toSorted());
  }
}
