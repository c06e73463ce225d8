import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ControlPlane } from '../../tests/kit/control-plane.ts';
import type { MeshHost } from '../../tests/kit/mesh-host.ts';
import { createMesh, type Mesh } from '../../tests/kit/mesh.ts';
import type { TestHost } from '../../tests/kit/netns.ts';
import { startNginx, startPostgres } from '../../tests/kit/programs.ts';
import { createSwtpmManufacturer, startSwtpm, type SwtpmManufacturer } from '../../tests/kit/swtpm.ts';

export const TRUST_DOMAIN = 'example.org';

/** The users on the host `desk`. They need no account: a number is a user. */
export const USERS = { web: 7001, reports: 7002, intruder: 7003 } as const;

/** The network on which the demonstration plays. */
export interface Stage {
  readonly folder: string;
  readonly mesh: Mesh;
  readonly control: ControlPlane;
  /** Has nginx and PostgreSQL. */
  readonly store: MeshHost;
  /** Has curl and psql. */
  readonly desk: MeshHost;
  /** Has no Picket. */
  readonly outsider: TestHost;
}

/** Builds the network, the programs and the two agents' software TPMs; nothing of Picket runs yet. Everything goes with `stack`. */
export async function buildStage(stack: AsyncDisposableStack): Promise<Stage> {
  const folder = mkdtempSync(join(tmpdir(), 'picket-demo-'));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  // Other users have their own folders in it.
  chmodSync(folder, 0o711);
  const manufacturer = await createSwtpmManufacturer();
  stack.defer(manufacturer.remove);
  const tpms = { store: await addTpm(stack, manufacturer), desk: await addTpm(stack, manufacturer) };
  const mesh = await createMesh({ folder: join(folder, 'mesh'), trustDomain: TRUST_DOMAIN, hosts: 4 });
  stack.defer(() => mesh.remove());
  const [, storeHost, deskHost, outsider] = mesh.network.hosts;
  if (storeHost === undefined || deskHost === undefined || outsider === undefined)
    throw new Error('The network has too few hosts');
  const programs = await startPrograms(storeHost, folder);
  stack.defer(programs);
  const store = mesh.prepareHost(storeHost, {
    name: 'store',
    attestation: { type: 'tpm', address: tpms.store },
  });
  const desk = mesh.prepareHost(deskHost, { name: 'desk', attestation: { type: 'tpm', address: tpms.desk } });
  return { folder, mesh, control: mesh.control, store, desk, outsider };
}

async function addTpm(stack: AsyncDisposableStack, manufacturer: SwtpmManufacturer): Promise<string> {
  const tpm = await startSwtpm({ manufacturer });
  stack.defer(tpm.stop);
  return tpm.address;
}

const LOCATIONS = `
    location /invoices { default_type application/json; return 200 '{"invoices":[{"id":1,"total":"120.00 EUR"}]}\\n'; }
    location /refunds { default_type application/json; return 201 '{"refund":"made"}\\n'; }`;

const TABLES = `create table invoices (id int, total numeric);
insert into invoices values (1, 120.00), (2, 80.50);`;

async function startPrograms(host: TestHost, folder: string): Promise<() => Promise<void>> {
  const nginx = await startNginx(host, { folder: join(folder, 'nginx'), locations: LOCATIONS });
  const postgres = await startPostgres(host, { folder: join(folder, 'postgres'), sql: TABLES });
  return async () => {
    await nginx.stop();
    await postgres.stop('SIGINT');
  };
}
