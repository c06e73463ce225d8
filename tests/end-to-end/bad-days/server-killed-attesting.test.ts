import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createdToken, nodePage } from '../../../shared/protocol/operator.ts';
import { createMesh, type Mesh } from '../../kit/mesh.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { startSwtpm, type Swtpm } from '../../kit/swtpm.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { DatabaseGate } from './database-gate.ts';

/** The server dies at every step of letting a host in: what the database did at that step is done, and nobody heard of it. */

setDefaultTimeout(240_000);

/** Far more messages to the database than an attestation takes. */
const MAX_STEPS = 40;

let folder: string;
let gate: DatabaseGate;
let mesh: Mesh;
let tpm: Swtpm;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-killed-'));
  chmodSync(folder, 0o711);
  tpm = await startSwtpm();
  mesh = await createMesh({
    folder,
    trustDomain: 'example.org',
    hosts: 2,
    startDatabase: async (host) => {
      gate = await DatabaseGate.open(host);
      return gate.url;
    },
  });
}, 120_000);

afterAll(async () => {
  await mesh.remove();
  await gate.close();
  await tpm.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Starts an agent and kills the server at a step of what follows; whether it came to that. In the end the server runs. */
async function startWhileServerDies(agent: MeshHost, step: number): Promise<boolean> {
  const { control } = mesh;
  const isKilled = await gate.killAt({ boundary: step }, control.pid, {
    work: () => void agent.launch(),
    isDone: async () => await agent.isReady(),
  });
  if (!isKilled) return false;
  await control.stop();
  if (step === 1) await expectToldOf(agent);
  await control.start();
  return true;
}

/** Log, metric and doctor of an agent that waits to be let in. */
async function expectToldOf(agent: MeshHost): Promise<void> {
  await waitUntil('the log tells it', () => eventsOf(agent.log(), 'attestation_failed').length > 0);
  expect(await agent.metric('picket_ready')).toBe(0);
  const { exitCode, faults } = await agent.examine();
  expect(exitCode).toBe(1);
  expect(faults.join('\n')).toMatch(/^agent certificate fail: none/m);
  expect(faults.join('\n')).toMatch(/^agent server fail: not connected, never heard/m);
}

const namesOfNodes = async (): Promise<readonly string[]> =>
  (await mesh.control.picketJson(nodePage, 'node', 'list')).items.map(
    ({ nodeId }) => nodeId.split('/').at(-1) ?? '',
  );

describe('the server killed while a host attests', () => {
  test('by join token: the host is let in when the server is back, and its token lets nobody else in', async () => {
    const host = mesh.network.hosts[1]!;
    let step = 1;
    for (let isKilled = true; isKilled; step++) {
      expect(step).toBeLessThan(MAX_STEPS);
      const name = `host-${step}`;
      const { token } = await mesh.control.picketJson(createdToken, 'token', 'create', name);
      const attestation = { type: 'join_token', token } as const;
      const agent = mesh.prepareHost(host, { name, attestation });
      isKilled = await startWhileServerDies(agent, step);
      await waitUntil(`${name} is let in`, async () => await agent.isReady(), 30_000);
      expect(await namesOfNodes()).toContain(name);
      await agent.stop('SIGKILL');
      const thief = mesh.prepareHost(host, { name: `${name}-thief`, attestation });
      const child = thief.launch();
      await waitUntil('the second one is refused for good', () => !child.isRunning);
      expect(thief.log()).toContain('The join token is unknown, used or expired');
    }
    // Each statement of the attestation was a step.
    expect(step).toBeGreaterThan(8);
  });

  test('by TPM: the host proves itself anew', async () => {
    const host = mesh.network.hosts[1]!;
    const attestation = { type: 'tpm', address: tpm.address } as const;
    const first = mesh.prepareHost(host, { name: 'tpm', attestation });
    await mesh.admitTpmHost(first);
    await first.stop('SIGKILL');
    let step = 1;
    for (let isKilled = true; isKilled; step++) {
      expect(step).toBeLessThan(MAX_STEPS);
      const agent = mesh.prepareHost(host, { name: `tpm-${step}`, attestation });
      isKilled = await startWhileServerDies(agent, step);
      await waitUntil('it is let in', async () => await agent.isReady(), 30_000);
      await agent.stop('SIGKILL');
    }
    expect(step).toBeGreaterThan(8);
    expect((await namesOfNodes()).filter((name) => name.startsWith('tpm'))).toEqual(['tpm']);
  });
});
