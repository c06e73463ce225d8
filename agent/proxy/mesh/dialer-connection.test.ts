import { expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { freePort } from '../../../tests/kit/free-port.ts';
import { silentLog } from '../../../tests/kit/datastore.ts';
import { SvidVerifier } from '../../../shared/spiffe/svid-verifier.ts';
import { MeshRig, TARGET } from '../fixtures/mesh-rig.ts';
import { HANDSHAKES_AT_ONCE, HandshakePace } from './handshake-pace.ts';
import { OutboundMeshConnection, type MeshClient } from './dialer-connection.ts';
import { MeshLosses } from './losses.ts';

test('A connection that waits for its turn on this host does not use up the patience with the other', async () => {
  const rig = await MeshRig.create();
  const clock = new FakeClock();
  const pace = new HandshakePace();
  const connection = new OutboundMeshConnection<MeshClient>(
    {
      protocol: 'tunnel',
      createClient: () => {
        throw new Error('Nobody answers');
      },
      clock,
      bundles: rig.calling.bundles,
      verifier: new SvidVerifier(),
      pace,
      connectMs: 10_000,
      onHandshake: () => undefined,
      onTicket: () => undefined,
      onIdle: () => undefined,
      onGone: () => undefined,
      losses: new MeshLosses({ side: 'caller', clock, log: silentLog, observer: undefined }),
    },
    {
      key: 'key',
      caller: rig.callerSvid,
      target: TARGET,
      address: '127.0.0.1',
      port: freePort(),
      mark: 0,
      session: undefined,
      patienceMs: 1000,
      isAnsweredSlowly: false,
    },
  );
  for (let others = 0; others < HANDSHAKES_AT_ONCE; others += 1) pace.run(() => undefined);
  const connected = connection.connect();
  clock.advance(60_000);
  const failure = await connected;
  expect(failure).toMatchObject({ kind: 'failed', reason: 'target_unreachable' });
  expect(failure?.message).toContain('ECONNREFUSED');
  await rig.stop();
});
