import { expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { MemoryStore } from '../key-store/memory.ts';
import { AgentAttestation } from './agent-attestation.ts';
import { IdentityStore } from './identity-store.ts';

/** The public keys with which a host asks a server that never answers, over two lives of its agent. */
async function keysOf(canReattest: boolean): Promise<readonly string[]> {
  const keys: string[] = [];
  const sealed = new MemoryStore();
  for (let life = 0; life < 2; life++) {
    const attestation = new AgentAttestation({
      api: {
        attest: ({ keyPair }) => {
          keys.push(Buffer.from(keyPair.publicKeySpki).toString('hex'));
          return Promise.reject(new PicketError('unavailable', 'server_unreachable', 'Gone'));
        },
        renew: () => Promise.reject(new Error('not asked')),
      },
      prover: {
        canReattest,
        payload: () => Promise.resolve({ type: 'join_token', token: 't' }),
        respond: () => Promise.reject(new Error('not asked')),
        close: () => Promise.resolve(),
      },
      store: new IdentityStore(sealed),
      agentVersion: '1',
      addresses: () => [],
      clock: new FakeClock(),
      log: silentLog,
    });
    for (let attempt = 0; attempt < 2; attempt++)
      expect(await refusalOf(attestation.attest())).toMatchObject({ reason: 'server_unreachable' });
  }
  return keys;
}

test('AgentAttestation.attest() asks with one key until it is answered, over a restart too, where the proof is good once', async () => {
  const keys = await keysOf(false);
  expect([keys.length, new Set(keys).size]).toEqual([4, 1]);
});

test('AgentAttestation.attest() asks with a key of its own each time where the host can prove itself again', async () => {
  const keys = await keysOf(true);
  expect(new Set(keys).size).toBe(4);
});
