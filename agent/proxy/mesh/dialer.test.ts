import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { waitUntil } from '../../../tests/kit/wait.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import {
  CALLER,
  makeAuthority,
  makeIntermediate,
  makeSvid,
  MeshRig,
  OTHER,
  streamOf,
  TARGET,
} from '../fixtures/mesh-rig.ts';
import type { MeshOpening } from './mesh.ts';
import { meshDialerContract } from './dialer-contract.ts';
import type { RunningMeshDialer } from './dialer-options.ts';

setDefaultTimeout(60_000);

let rig: MeshRig;
beforeEach(async () => {
  rig = await MeshRig.create();
});
afterEach(async () => await rig.stop());

/** One short exchange that ends cleanly on both sides. */
async function exchange(dialer: RunningMeshDialer): Promise<string> {
  rig.onOpening = (opening) => {
    const stream = opening.accept();
    stream.attach({
      onData: (bytes) => void stream.write(bytes),
      onEnd: () => stream.end(),
      onDrain: () => undefined,
      onClose: () => undefined,
    });
  };
  const stream = streamOf(await dialer.open(rig.request()));
  const reader = new CollectingReader();
  stream.attach(reader);
  stream.write(Buffer.from('ping'));
  stream.end();
  await waitUntil('the exchange is over', () => reader.closure);
  expect(reader.closure).toEqual({ failure: undefined });
  return reader.text;
}

meshDialerContract('a dialer of tunnels', (meshRig, meshPort) => meshRig.dialer(meshPort));

describe('a mesh dialer', () => {
  test('names the connection to the called side', async () => {
    const dialer = rig.dialer(rig.listen().port);
    const request = rig.request();
    await rig.openPair(dialer, request);
    expect(rig.openings.at(-1)?.connectionId).toBe(request.connectionId);
  });

  test('tells a denial in the words of the called side', async () => {
    const dialer = rig.dialer(rig.listen().port);
    const decisionId = crypto.randomUUID();
    const denial = { reason: 'policy_deny', decisionId, message: 'No rule allows it: ä' } as const;
    rig.onOpening = (opening) => opening.deny(denial);
    expect(await dialer.open(rig.request())).toEqual({ kind: 'denied', ...denial });
  });

  test('reuses one TLS connection for one application connection after another', async () => {
    const listener = rig.listen();
    const dialer = rig.dialer(listener.port);
    for (let i = 0; i < 20; i++) expect(await exchange(dialer)).toBe('ping');
    expect(rig.count('caller', 'full')).toBe(1);
    expect(rig.count('called', 'full')).toBe(1);
    expect(listener.connections).toBe(1);
  });

  test('never carries two at once on one TLS connection', async () => {
    const dialer = rig.dialer(rig.listen().port);
    await rig.openPair(dialer);
    await rig.openPair(dialer);
    expect(dialer.connections).toBe(2);
    expect(rig.count('caller', 'full') + rig.count('caller', 'resumed')).toBe(2);
  });

  test('an aborted stream tells reason and decision to the other side, and its TLS connection is gone', async () => {
    const listener = rig.listen();
    const dialer = rig.dialer(listener.port);
    const { near, far } = await rig.openPair(dialer);
    const reader = new CollectingReader();
    near.attach(reader);
    const failure = {
      reason: 'policy_deny',
      decisionId: 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6',
      message: 'The policy has changed',
    } as const;
    far.abort(failure);
    await waitUntil('the near side is told', () => reader.closure);
    expect(reader.closure!.failure).toEqual(failure);
    await waitUntil('nothing is left', () => dialer.connections === 0 && listener.connections === 0);
  });

  test('resumes a session where the pool is empty, and verifies the peer on it too', async () => {
    const listener = rig.listen();
    const dialer = rig.dialer(listener.port, { limits: { maxIdlePerKey: 0 } });
    await exchange(dialer);
    await waitUntil('the connection is closed', () => dialer.connections === 0);
    await exchange(dialer);
    expect([rig.count('caller', 'full'), rig.count('caller', 'resumed')]).toEqual([1, 1]);
    expect([rig.count('called', 'full'), rig.count('called', 'resumed')]).toEqual([1, 1]);
  });

  test('resumes a session also where nothing is left of the connection that gave the ticket, on either side', async () => {
    const dialer = rig.dialer(rig.listen().port, { limits: { maxIdlePerKey: 0 } });
    const rounds = 5;
    for (let i = 0; i <= rounds; i++) {
      await exchange(dialer);
      await waitUntil('the connection is closed', () => dialer.connections === 0);
      // Of what is garbage now one collection may leave a part.
      Bun.gc(true);
    }
    expect([rig.count('caller', 'full'), rig.count('called', 'full')]).toEqual([1, 1]);
    expect([rig.count('caller', 'resumed'), rig.count('called', 'resumed')]).toEqual([rounds, rounds]);
  });

  test('a chain with an intermediate is verified, fresh and resumed', async () => {
    const intermediate = await makeIntermediate(rig.authority);
    rig.called.serve(await makeSvid(TARGET, rig.authority, { intermediate }));
    const caller = await makeSvid(CALLER, rig.authority, { intermediate });
    const dialer = rig.dialer(rig.listen().port, { limits: { maxIdlePerKey: 0 } });
    for (const expected of [0, 1]) {
      rig.onOpening = (opening) => opening.accept().end();
      const stream = streamOf(await dialer.open(rig.request({ caller })));
      const reader = new CollectingReader();
      stream.attach(reader);
      stream.end();
      await waitUntil('it is over', () => reader.closure && dialer.connections === 0);
      expect(rig.count('called', 'resumed')).toBe(expected);
    }
  });

  test('a pooled connection that died is replaced by a fresh one, unseen', async () => {
    const first = rig.listen();
    const dialer = rig.dialer(first.port);
    await exchange(dialer);
    expect(dialer.idleConnections).toBe(1);
    // The called side closes at the very moment at which we open.
    rig.onOpening = () => undefined;
    rig.called.trust(rig.authority);
    expect(await exchange(dialer)).toBe('ping');
    expect(rig.count('caller', 'full') + rig.count('caller', 'resumed')).toBe(2);
  });

  test('a fresh connection that the called side retires before it is used is replaced by another, unseen', async () => {
    const renewed = await makeSvid(TARGET, rig.authority);
    const { port } = rig.listen({
      observer: { ...rig.observer, handshaken: () => rig.called.serve(renewed) },
    });
    expect(await exchange(rig.dialer(port))).toBe('ping');
    expect(rig.count('caller', 'full')).toBe(2);
  });

  test('a caller who is refused on a fresh connection is not asked for again', async () => {
    const stranger = await makeSvid(CALLER, await makeAuthority());
    rig.calling.serve(stranger);
    const outcome = await rig.dialer(rig.listen().port).open(rig.request({ caller: stranger }));
    expect(outcome).toMatchObject({ kind: 'failed', reason: 'caller_untrusted' });
    expect(rig.count('caller', 'full')).toBe(1);
  });

  test('names the errno when nobody listens', async () => {
    const listener = rig.listen();
    const dialer = rig.dialer(listener.port);
    await listener.stop();
    const outcome = await dialer.open(rig.request());
    expect(outcome).toMatchObject({ kind: 'failed', reason: 'target_unreachable' });
    expect(outcome.kind === 'failed' && outcome.message).toEndWith('ECONNREFUSED');
    expect(rig.count('caller', 'failed')).toBe(1);
  });

  test('gives up a host that accepts and says nothing', async () => {
    const silent = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data: () => undefined } });
    const dialer = rig.dialer(silent.port, { limits: { connectMs: 150 } });
    const outcome = await dialer.open(rig.request());
    expect(outcome).toMatchObject({ kind: 'failed', reason: 'target_unreachable' });
    expect(outcome.kind === 'failed' && outcome.message).toEndWith('ETIMEDOUT');
    expect(dialer.connections).toBe(0);
    silent.stop(true);
  });

  test('gives up an opening that is not answered, and tells the other side', async () => {
    const dialer = rig.dialer(rig.listen().port, { limits: { answerMs: 150 } });
    let isAbandoned = false;
    rig.onOpening = (opening) => {
      rig.openings.push(opening);
      opening.onAbandoned(() => {
        isAbandoned = true;
      });
    };
    expect(await dialer.open(rig.request())).toMatchObject({ kind: 'failed', reason: 'target_unreachable' });
    await waitUntil('the called side is told', () => isAbandoned);
    const reader = new CollectingReader();
    rig.openings[0]!.accept().attach(reader);
    await waitUntil('accepting is in vain', () => reader.closure?.failure);
  });

  test('gives up sooner where it is asked to: an opening that is not answered, a host that does not finish the handshake', async () => {
    const dialer = rig.dialer(rig.listen().port);
    rig.onOpening = (opening) => void rig.openings.push(opening);
    const impatient = { ...rig.request(), patienceMs: 150 };
    expect(await dialer.open(impatient)).toMatchObject({ kind: 'failed', reason: 'target_unreachable' });
    const silent = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data: () => undefined } });
    const outcome = await rig.dialer(silent.port).open(impatient);
    expect(outcome.kind === 'failed' && outcome.message).toEndWith('ETIMEDOUT');
    silent.stop(true);
  });

  test('waits longer for one that takes long and shows that it is there, new or pooled, and not for one that does not', async () => {
    const dialer = rig.dialer(rig.listen().port);
    let opened = Promise.withResolvers<MeshOpening>();
    rig.onOpening = (opening) => opened.resolve(opening);
    const asked = { ...rig.request(), patienceMs: 10_000, isAnsweredSlowly: true };
    for (const use of ['new', 'pooled']) {
      opened = Promise.withResolvers();
      const opening = dialer.open(asked);
      const far = await opened.promise;
      await waitUntil(
        'the other host has shown that it is there',
        () => !rig.clock.isAwaited(asked.patienceMs),
      );
      rig.clock.pass(2 * asked.patienceMs);
      const stream = far.accept();
      stream.attach(new CollectingReader());
      stream.end();
      const outcome = await opening;
      expect(outcome).toMatchObject({ kind: 'accepted', use });
      const reader = new CollectingReader();
      streamOf(outcome).attach(reader);
      streamOf(outcome).end();
      await waitUntil('it is over', () => reader.closure);
    }
    opened = Promise.withResolvers();
    const opening = dialer.open({ ...asked, isAnsweredSlowly: false });
    await opened.promise;
    rig.clock.pass(asked.patienceMs);
    expect(await opening).toMatchObject({ kind: 'failed' });
  });

  test('bounds how many openings wait', async () => {
    const dialer = rig.dialer(rig.listen().port, { limits: { maxOpenings: 2 } });
    const waiting = [dialer.open(rig.request()), dialer.open(rig.request())];
    expect(await dialer.open(rig.request())).toMatchObject({ kind: 'failed', reason: 'overloaded' });
    await waitUntil('both are seen', () => rig.openings.length === 2);
    for (const opening of rig.openings) opening.accept();
    expect((await Promise.all(waiting)).map(({ kind }) => kind)).toEqual(['accepted', 'accepted']);
  });

  test('bounds how many connections to a host are set up at once; the others wait', async () => {
    const dialer = rig.dialer(rig.listen().port, { limits: { maxHandshakesPerPeer: 2 } });
    rig.onOpening = (opening) => opening.accept();
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, async () => await dialer.open(rig.request())),
    );
    expect(outcomes.every(({ kind }) => kind === 'accepted')).toBe(true);
  });

  test('sets up connections to a host beside openings that the host is slow to answer', async () => {
    const limits = { maxHandshakesPerPeer: 1, connectMs: 2000 };
    const dialer = rig.dialer(rig.listen().port, { limits });
    const waiting = [dialer.open(rig.request()), dialer.open(rig.request())];
    await waitUntil('both are seen', () => rig.openings.length === 2);
    for (const opening of rig.openings) opening.accept();
    expect((await Promise.all(waiting)).map(({ kind }) => kind)).toEqual(['accepted', 'accepted']);
  });

  test('a stream that carries nothing for long is none that is idle: it outlives the limits of pool and listener', async () => {
    const limits = { idleMs: 60_000, maxAgeMs: 60_000 };
    const dialer = rig.dialer(rig.listen({ limits }).port, { limits });
    const { near, far } = await rig.openPair(dialer);
    const reader = new CollectingReader();
    far.attach(reader);
    rig.clock.pass(10 * limits.idleMs);
    near.write(Buffer.from('after long'));
    await waitUntil('it arrives', () => reader.text === 'after long');
  });

  test('idle connections end after their time', async () => {
    const listener = rig.listen();
    const dialer = rig.dialer(listener.port, { limits: { idleMs: 50 } });
    await exchange(dialer);
    await waitUntil('it is closed on both sides', () => dialer.connections + listener.connections === 0);
    expect(dialer.idleConnections).toBe(0);
  });

  test('refuses a host that answers with another identity, before our certificate was shown', async () => {
    const impostor = await makeSvid(OTHER, rig.authority);
    const evil = listenAs(impostor);
    const dialer = rig.dialer(evil.port);
    const outcome = await dialer.open(rig.request());
    expect(outcome).toMatchObject({ kind: 'failed', reason: 'target_untrusted' });
    expect(outcome.kind === 'failed' && outcome.message).toContain(OTHER);
    await waitUntil('it is refused', () => evil.closed > 0);
    expect(evil.certificates).toBe(0);
    evil.stop();
  });

  const untrusted: readonly (readonly [string, () => Promise<HeldSvid>])[] = [
    ['of an untrusted root', async () => await makeSvid(TARGET, await makeAuthority())],
    ['that has ended', async () => await makeSvid(TARGET, rig.authority, { lifeMs: -1000 })],
  ];
  for (const [name, make] of untrusted)
    test(`refuses a host whose certificate is one ${name}`, async () => {
      const evil = listenAs(await make());
      const outcome = await rig.dialer(evil.port).open(rig.request());
      expect(outcome).toMatchObject({ kind: 'failed', reason: 'target_untrusted' });
      evil.stop();
    });

  test('our own certificate that has ended opens nothing', async () => {
    const caller = await makeSvid(CALLER, rig.authority, { lifeMs: -1000 });
    const dialer = rig.dialer(rig.listen().port);
    expect((await dialer.open(rig.request({ caller }))).kind).toBe('failed');
    expect(rig.handshakes).toEqual([]);
  });

  test('a change of the bundles drops tickets, retires what still verifies and cuts what does not', async () => {
    const dialer = rig.dialer(rig.listen().port);
    const { near } = await rig.openPair(dialer);
    await exchange(dialer);
    const reader = new CollectingReader();
    near.attach(reader);
    expect(dialer.idleConnections).toBe(1);
    const otherAuthority = await makeAuthority();
    rig.calling.trust(rig.authority, otherAuthority);
    expect(dialer.idleConnections).toBe(0);
    await waitUntil('the idle one is closed', () => dialer.connections === 1);
    expect(reader.closure).toBeUndefined();
    const full = rig.count('caller', 'full');
    await exchange(dialer);
    expect(rig.count('caller', 'full')).toBe(full + 1);
    rig.calling.trust(otherAuthority);
    await waitUntil('the open one is cut', () => reader.closure);
    expect(reader.closure!.failure!.reason).toBe('target_untrusted');
    await waitUntil('nothing is left', () => dialer.connections === 0);
    expect(await dialer.open(rig.request())).toMatchObject({ kind: 'failed', reason: 'target_untrusted' });
  });

  test('drain() keeps no connection, and still opens what is asked for', async () => {
    const dialer = rig.dialer(rig.listen().port);
    await exchange(dialer);
    expect(dialer.idleConnections).toBe(1);
    const { near } = await rig.openPair(dialer);
    const reader = new CollectingReader();
    near.attach(reader);
    dialer.drain();
    expect(await exchange(dialer)).toBe('ping');
    await waitUntil('only what is open is left', () => dialer.connections === 1);
    expect([dialer.idleConnections, reader.closure]).toEqual([0, undefined]);
  });

  test('leave() tells the called side once that what is open should end, before or after it listens', async () => {
    const dialer = rig.dialer(rig.listen().port);
    let told = 0;
    rig.onOpening = (opening) => {
      rig.openings.push(opening);
      const stream = opening.accept();
      stream.attach(new CollectingReader());
      stream.resume();
      if (rig.openings.length === 1) opening.onLeaving(() => (told += 1));
    };
    const [first, second] = [await dialer.open(rig.request()), await dialer.open(rig.request())];
    for (const outcome of [first, second]) {
      if (outcome.kind !== 'accepted') throw new Error(`It is ${outcome.kind}`);
      outcome.leave();
      outcome.leave();
    }
    await waitUntil('it is told', () => told === 1);
    await waitUntil('it is told who asks later', () => {
      let isTold = false;
      rig.openings[1]?.onLeaving(() => (isTold = true));
      return isTold;
    });
    expect(told).toBe(1);
  });

  test('a new certificate of the caller is used at once: the pool and tickets of the old one are not', async () => {
    const dialer = rig.dialer(rig.listen().port);
    await exchange(dialer);
    const renewed = await makeSvid(CALLER, rig.authority);
    rig.calling.serve(renewed);
    await waitUntil('the old connection is closed', () => dialer.connections === 0);
    rig.onOpening = (opening) => {
      rig.openings.push(opening);
      opening.accept();
    };
    await dialer.open(rig.request({ caller: renewed }));
    expect(Buffer.from(rig.openings[0]!.caller.leaf).equals(renewed.chain[0]!)).toBe(true);
    expect([rig.count('caller', 'full'), rig.count('caller', 'resumed')]).toEqual([2, 0]);
  });

  test('a stream is cut when the certificate of the called side ends', async () => {
    const lifeMs = 60_000;
    rig.called.serve(await makeSvid(TARGET, rig.authority, { lifeMs }));
    const dialer = rig.dialer(rig.listen().port);
    const { near } = await rig.openPair(dialer);
    const reader = new CollectingReader();
    near.attach(reader);
    expect(reader.closure).toBeUndefined();
    rig.clock.pass(lifeMs + 1000);
    await waitUntil('it is cut', () => reader.closure);
    expect(reader.closure!.failure!.message).toContain('certificate');
  });
});

/** A TLS server that is not ours, with the certificate that the test wants. */
function listenAs(svid: HeldSvid): {
  readonly port: number;
  /** How many clients have shown a certificate, and how many connections have ended. */
  readonly certificates: number;
  readonly closed: number;
  stop(): void;
} {
  const counts = { certificates: 0, closed: 0 };
  const socket: Bun.SocketHandler = {
    data: () => undefined,
    handshake: (peer) => {
      if ((peer.getPeerX509Certificate() as unknown) !== undefined) counts.certificates += 1;
    },
    close: () => {
      counts.closed += 1;
    },
  };
  const tls = {
    cert: svid.chainPem,
    key: svid.privateKeyPem,
    requestCert: true,
    rejectUnauthorized: false,
    ALPNProtocols: Buffer.from('\x08picket/1', 'latin1'),
  };
  const listener = Bun.listen({ hostname: '127.0.0.1', port: 0, tls, socket });
  return {
    port: listener.port,
    get certificates() {
      return counts.certificates;
    },
    get closed() {
      return counts.closed;
    },
    stop: () => listener.stop(true),
  };
}
