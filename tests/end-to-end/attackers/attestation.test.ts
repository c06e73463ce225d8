import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createdToken, nodePage } from '../../../shared/protocol/operator.ts';
import { createMesh, type Mesh } from '../../kit/mesh.ts';
import { waitUntil } from '../../kit/wait.ts';

/** Two hosts with one join token at the same moment. What a TPM can be made to say is in tests/integration/tpm-attacks.test.ts. */

setDefaultTimeout(60_000);

let folder: string;
let mesh: Mesh;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-tokens-'));
  mesh = await createMesh({ folder, trustDomain: 'example.org', hosts: 4 });
}, 120_000);
afterAll(async () => {
  await mesh.remove();
  rmSync(folder, { recursive: true, force: true });
});

describe('a join token', () => {
  test('lets exactly one of three hosts in that show it at once', async () => {
    const { token } = await mesh.control.picketJson(createdToken, 'token', 'create', 'prize');
    const agents = mesh.network.hosts.slice(1).map((host, i) => {
      const attestation = { type: 'join_token', token } as const;
      return mesh.prepareHost(host, { name: `rival-${i}`, attestation });
    });
    for (const agent of agents) agent.launch();
    const isReady = await waitUntil('all have had their answer', async () => {
      const ready = await Promise.all(agents.map(async (agent) => await agent.isReady()));
      const areAnswered = agents.every(
        (agent, i) => ready[i] === true || agent.log().includes('The join token is unknown, used or expired'),
      );
      return areAnswered && ready;
    });
    expect(isReady.filter(Boolean)).toHaveLength(1);
    const { items } = await mesh.control.picketJson(nodePage, 'node', 'list');
    expect(items.map(({ nodeId }) => String(nodeId))).toEqual([
      'spiffe://example.org/picket/agent/join_token/prize',
    ]);
    for (const agent of agents) await agent.stop();
  });
});
