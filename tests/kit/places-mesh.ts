import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { z } from 'zod';
import { statusAnswer } from '../../agent/admin/admin-answers.ts';
import type { Child } from './child.ts';
import { createMesh, type Mesh } from './mesh.ts';
import type { MeshHost } from './mesh-host.ts';
import { curl, startNginx, type CurlAnswer } from './programs.ts';
import { waitUntil } from './wait.ts';

/** The user on the host `desk` that is /web. */
export const WEB_UID = 7001;
/** Where /web asks for /invoices: an address that no host has. */
export const SERVICE = { ipv4: '198.18.7.1', ipv6: 'fd96::7' };
export const INVOICES = 'spiffe://example.org/invoices';
/** Forward on `desk`. */
export const FORWARD_PORT = 9080;
/** From near to far of `desk`, which is in eu/a. */
const PLACES = { near: 'eu/a', region: 'eu/b', far: 'us/a' } as const;
export type Place = keyof typeof PLACES;
export const PLACE_NAMES = Object.keys(PLACES) as readonly Place[];

/** A server, `desk`, and three hosts in different places with an nginx that is /invoices and says where it is. */
export class PlacesMesh {
  readonly folder: string;
  readonly mesh: Mesh;
  readonly desk: MeshHost;
  readonly hosts: Readonly<Record<Place, MeshHost>>;
  readonly #nginx = new Map<Place, Child>();

  private constructor(parts: Pick<PlacesMesh, 'folder' | 'mesh' | 'desk' | 'hosts'>) {
    this.folder = parts.folder;
    this.mesh = parts.mesh;
    this.desk = parts.desk;
    this.hosts = parts.hosts;
  }

  /** Starts everything and waits until the nearest answers. */
  static async open(): Promise<PlacesMesh> {
    const folder = mkdtempSync(join(tmpdir(), 'picket-places-'));
    chmodSync(folder, 0o711);
    const mesh = await createMesh({ folder: join(folder, 'mesh'), trustDomain: 'example.org', hosts: 5 });
    const [, near, region, far, deskHost] = mesh.network.hosts;
    if (near === undefined || region === undefined || far === undefined || deskHost === undefined)
      throw new Error('The network has too few hosts');
    const forwards = [{ listen: `127.0.0.1:${FORWARD_PORT}`, to: `${SERVICE.ipv4}:80` }];
    const hosts = {
      near: await mesh.joinHost(near, 'near'),
      region: await mesh.joinHost(region, 'region'),
      far: await mesh.joinHost(far, 'far'),
    };
    const desk = await mesh.joinHost(deskHost, 'desk', { forwards });
    const places = new PlacesMesh({ folder, mesh, desk, hosts });
    await places.#setUp();
    return places;
  }

  /** Which place answers a request of /web to the service, and how. */
  async ask(
    path = '/invoices',
    ...args: readonly string[]
  ): Promise<CurlAnswer & { readonly place: string }> {
    const url = `http://${SERVICE.ipv4}${path}`;
    const answer = await curl(this.desk.host, { uid: WEB_UID, args: ['--max-time', '20', url, ...args] });
    return { ...answer, place: answer.body.trim() };
  }

  /** Until requests are answered from there. */
  async waitForPlace(place: Place): Promise<void> {
    await waitUntil(`${place} answers`, async () => (await this.ask()).place === place, 60_000);
  }

  async startNginx(place: Place, options: { readonly listen?: readonly string[] } = {}): Promise<void> {
    const locations = `location / { default_type text/plain; return 200 "${place}\\n"; }`;
    const folder = join(this.folder, `nginx-${place}`);
    this.#nginx.set(place, await startNginx(this.hosts[place].host, { folder, locations, ...options }));
  }

  async stopNginx(place: Place, signal: NodeJS.Signals = 'SIGQUIT'): Promise<void> {
    await this.#nginx.get(place)?.stop(signal);
    this.#nginx.delete(place);
  }

  /** How `desk` sees the members of the service, by place. */
  async members(): Promise<Readonly<Record<Place, MemberShown>>> {
    const status = statusAnswer.parse(JSON.parse(await this.desk.picketOk('agent', 'status', '--json')));
    const members = status.services.find(({ name }) => name === 'invoices')?.members ?? [];
    const of = (place: Place): MemberShown => {
      const found = members.find(({ address }) => address === this.hosts[place].host.ipv4);
      if (found === undefined) throw new Error(`${place} is no member`);
      return found;
    };
    return { near: of('near'), region: of('region'), far: of('far') };
  }

  async close(): Promise<void> {
    for (const nginx of this.#nginx.values()) await nginx.stop();
    await this.mesh.remove();
    if (process.env['KEEP'] === undefined) rmSync(this.folder, { recursive: true, force: true });
  }

  async #setUp(): Promise<void> {
    const { control } = this.mesh;
    const place = async (name: string, where: string): Promise<string> =>
      await control.picketOk('node', 'place', 'set', nodeIdOf(name), where);
    await place('desk', 'eu/a');
    for (const name of PLACE_NAMES) {
      await place(name, PLACES[name]);
      await this.startNginx(name);
      await this.mesh.register({
        path: '/invoices',
        on: this.hosts[name],
        selectors: ['unix:user:www-data'],
        listen: ['80'],
      });
    }
    await this.mesh.register({ path: '/web', on: this.desk, selectors: [`unix:uid:${WEB_UID}`] });
    const addresses = ['--address', `${SERVICE.ipv4}:80`, '--address', `[${SERVICE.ipv6}]:80`];
    await control.picketOk(
      'service',
      'set',
      'invoices',
      '--spiffe-id',
      INVOICES,
      '--port',
      '80',
      ...addresses,
    );
    // No host has these addresses; a program gets as far as its own host's rules only where there is a route.
    await this.desk.host.runOk('ip', 'route', 'add', `${SERVICE.ipv4}/32`, 'dev', 'eth0');
    await this.desk.host.runOk('ip', '-6', 'route', 'add', `${SERVICE.ipv6}/128`, 'dev', 'eth0');
    await control.picketOk('policy', 'publish', join(import.meta.dirname, 'policies/shop'), '-m', 'places');
    await this.waitForPlace('near');
  }
}

export type MemberShown = z.output<typeof statusAnswer>['services'][number]['members'][number];

export function nodeIdOf(name: string): string {
  return `spiffe://example.org/picket/agent/join_token/${name}`;
}
