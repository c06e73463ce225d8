import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { z } from 'zod';
import { createdToken, nodePage, tpmHostPage } from '../../shared/protocol/operator.ts';
import { createMesh, type Mesh } from '../kit/mesh.ts';
import type { TestHost } from '../kit/netns.ts';
import { startSwtpm, type Swtpm } from '../kit/swtpm.ts';
import { waitUntil } from '../kit/wait.ts';

/** Who gets in as a host, and who does not. */

setDefaultTimeout(90_000);

let folder: string;
let mesh: Mesh;
let hosts: readonly TestHost[];
let tpm: Swtpm;
/** With the shortest life that there is. */
let brief: z.output<typeof createdToken>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-hosts-'));
  tpm = await startSwtpm();
  mesh = await createMesh({ folder, trustDomain: 'example.org', hosts: 4 });
  hosts = mesh.network.hosts;
  brief = await mesh.control.picketJson(createdToken, 'token', 'create', 'late', '--ttl', '10s');
}, 120_000);

afterAll(async () => {
  await mesh.remove();
  await tpm.stop();
  rmSync(folder, { recursive: true, force: true });
});

const nodeIds = async (): Promise<readonly string[]> =>
  (await mesh.control.picketJson(nodePage, 'node', 'list')).items.map(({ nodeId }) => nodeId);

describe('a host with a TPM', () => {
  test('waits until an operator approves it, then attests by itself; banned, it is shut out', async () => {
    const agent = mesh.prepareHost(hosts[1]!, {
      name: 'alpha',
      attestation: { type: 'tpm', address: tpm.address },
    });
    await mesh.admitTpmHost(agent);
    expect(await nodeIds()).toContain('spiffe://example.org/picket/agent/tpm/alpha');
    const { items } = await mesh.control.picketJson(tpmHostPage, 'node', 'tpm', 'list');
    expect(items).toMatchObject([{ state: 'approved', name: 'alpha' }]);
    await mesh.control.picketOk('node', 'ban', 'spiffe://example.org/picket/agent/tpm/alpha');
    await waitUntil('the agent notices', () => agent.log().includes('banned'), 30_000);
    await agent.stop();
  });
});

describe('a host with a join token', () => {
  test('gets in once; the token is worth nothing afterwards', async () => {
    const first = await mesh.joinHost(hosts[2]!, 'beta');
    expect(await nodeIds()).toContain('spiffe://example.org/picket/agent/join_token/beta');
    await first.stop();
    const thief = mesh.prepareHost(hosts[3]!, { name: 'thief', attestation: first.attestation });
    const child = thief.launch();
    await waitUntil('it was refused', () => thief.log().includes('join_token') || !child.isRunning, 30_000);
    expect((await nodeIds()).some((id) => id.endsWith('/thief'))).toBe(false);
    expect(await thief.isReady()).toBe(false);
    await thief.stop();
  });

  test('does not believe a server whose root it was not given', async () => {
    const made = await mesh.control.picketJson(createdToken, 'token', 'create', 'gamma');
    const agent = mesh.prepareHost(hosts[3]!, {
      name: 'gamma',
      attestation: { type: 'join_token', token: made.token },
      trust: { rootKeySha256: '0'.repeat(64) },
    });
    const child = agent.launch();
    await waitUntil(
      'it refuses',
      () => agent.log().includes('root_pin_mismatch') || !child.isRunning,
      30_000,
    );
    expect(await nodeIds()).not.toContain(made.agentId);
    await agent.stop();
  });

  test('is believed by the hash of the root’s key, as printed with the token', async () => {
    const made = await mesh.control.picketJson(createdToken, 'token', 'create', 'delta');
    const agent = mesh.prepareHost(hosts[3]!, {
      name: 'delta',
      attestation: { type: 'join_token', token: made.token },
      trust: { rootKeySha256: made.rootKeySha256 },
    });
    await agent.start();
    expect(await nodeIds()).toContain(made.agentId);
    await agent.stop();
  });

  test('does not get in with a token that has ended', async () => {
    await waitUntil('it has ended', () => Date.now() > Date.parse(brief.expiresAt));
    const attestation = { type: 'join_token', token: brief.token } as const;
    const late = mesh.prepareHost(hosts[3]!, { name: 'late', attestation });
    const child = late.launch();
    await waitUntil('it was refused', () => late.log().includes('join_token') || !child.isRunning, 30_000);
    expect(await nodeIds()).not.toContain(brief.agentId);
    expect(await late.isReady()).toBe(false);
    await late.stop();
  });
});
