import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  createSecureServer,
  type Http2Session,
  type Http2Stream,
  type SecureServerOptions,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { waitUntil } from '../../../tests/kit/wait.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import type { StreamPair } from '../streams/byte-stream-contract.ts';
import { CALLER, makeAuthority, makeSvid, MeshRig, OTHER, streamOf, TARGET } from '../fixtures/mesh-rig.ts';
import { HBONE_LIMITS } from './limits.ts';
import { meshDialerContract } from '../mesh/dialer-contract.ts';

setDefaultTimeout(60_000);

let rig: MeshRig;
const peers: Peer[] = [];
beforeEach(async () => {
  rig = await MeshRig.create();
});
afterEach(async () => {
  for (const peer of peers.splice(0)) peer.stop();
  await rig.stop();
});

function readerOf(stream: ByteStream): CollectingReader {
  const reader = new CollectingReader();
  stream.attach(reader);
  return reader;
}

type Headers = Readonly<Record<string, string | undefined>>;

/** An HBONE server that is not ours: node:http2. */
class Peer {
  readonly asked: { readonly stream: Http2Stream; readonly headers: Headers }[] = [];
  readonly sessions: Http2Session[] = [];
  onConnect: (stream: Http2Stream & { respond(headers: Headers): void }, headers: Headers) => void = (
    stream,
  ) => {
    stream.respond({ ':status': '200' });
    stream.pipe(stream);
  };
  readonly #server;

  constructor(svid: HeldSvid, options: SecureServerOptions = {}) {
    this.#server = createSecureServer({
      cert: svid.chainPem,
      key: svid.privateKeyPem,
      requestCert: true,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
      ...options,
    });
    this.#server.on('session', (session: Http2Session) => {
      session.on('error', () => undefined);
      this.sessions.push(session);
    });
    this.#server.on(
      'stream',
      (stream: Http2Stream & { respond(headers: Headers): void }, headers: Headers) => {
        stream.on('error', () => undefined);
        this.asked.push({ stream, headers });
        this.onConnect(stream, headers);
      },
    );
    peers.push(this);
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  stop(): void {
    for (const session of this.sessions) session.destroy();
    this.#server.close();
  }
}

meshDialerContract('a dialer of HBONE', (meshRig, meshPort) => meshRig.hboneDialer(meshPort));

describe('an HBONE dialer', () => {
  test('tells a denial by the answer that it got', async () => {
    const dialer = rig.hboneDialer(rig.listen().port);
    rig.onOpening = (opening) => opening.deny({ reason: 'quarantined', decisionId: '', message: 'held' });
    const message = 'The other host answered CONNECT with 401';
    expect(await dialer.open(rig.request())).toMatchObject({ kind: 'denied', message });
  });

  test('carries many connections on one of TLS, and ends one without the others', async () => {
    const listener = rig.listen();
    const dialer = rig.hboneDialer(listener.port);
    const pairs: StreamPair[] = [];
    rig.onOpening = (opening) => void rig.openings.push(opening);
    const asked = Array.from({ length: 50 }, async () => streamOf(await dialer.open(rig.request())));
    await waitUntil('all are asked for', () => rig.openings.length === 50);
    const fars = rig.openings.map((opening) => opening.accept());
    for (const [i, near] of (await Promise.all(asked)).entries()) pairs.push({ near, far: fars[i]! });
    expect([rig.count('caller', 'full'), listener.connections, dialer.connections]).toEqual([1, 1, 1]);
    const readers = pairs.map(({ near }) => readerOf(near));
    fars[7]!.abort();
    await waitUntil('the one is over', () => readers[7]!.closure?.failure);
    for (const far of fars) far.write(Buffer.from('on'));
    await waitUntil('the others go on', () => readers.every(({ text }, i) => i === 7 || text === 'on'));
  });

  test('is refused where more than one identity could be meant, and where HBONE is turned off', async () => {
    rig.called.serve(rig.targetSvid, await makeSvid(OTHER, rig.authority));
    expect(await rig.hboneDialer(rig.listen().port).open(rig.request())).toMatchObject({
      kind: 'failed',
      reason: 'target_unreachable',
    });
    rig.called.serve(rig.targetSvid);
    const { port } = rig.listen({ acceptsHbone: false });
    expect(await rig.hboneDialer(port).open(rig.request())).toMatchObject({ kind: 'failed' });
    expect(rig.openings).toEqual([]);
  });

  test('an identity that nobody can call does not count', async () => {
    rig.called.serve(rig.targetSvid, await makeSvid(OTHER, rig.authority));
    const identities = new Map(rig.called.identities.current);
    for (const [id, { entry, svid }] of identities)
      if (svid.spiffeId === OTHER) identities.set(id, { svid, entry: { ...entry, listeners: [] } });
    rig.called.identities.set(identities);
    const dialer = rig.hboneDialer(rig.listen().port);
    rig.onOpening = (opening) => void opening.accept();
    expect((await dialer.open(rig.request())).kind).toBe('accepted');
  });

  test('a change of trust cuts what does not verify any more, and retires what does', async () => {
    const listener = rig.listen();
    const dialer = rig.hboneDialer(listener.port);
    const { near, far } = await rig.openPair(dialer);
    const [nearReader, farReader] = [readerOf(near), readerOf(far)];
    rig.called.trust(rig.authority, await makeAuthority());
    await waitUntil('a new one is used', async () => {
      await rig.openPair(dialer);
      return rig.count('caller', 'full') === 2;
    });
    near.write(Buffer.from('still'));
    await waitUntil('the old one goes on', () => farReader.text === 'still');
    rig.called.trust(await makeAuthority());
    await waitUntil('it is cut', () => nearReader.closure?.failure && farReader.closure?.failure);
    await waitUntil('nothing is left', () => dialer.connections === 0 && listener.connections === 0);
  });

  test('a new certificate of the caller is used at once; what is open goes on', async () => {
    const dialer = rig.hboneDialer(rig.listen().port);
    const { near, far } = await rig.openPair(dialer);
    const renewed = await makeSvid(CALLER, rig.authority);
    rig.calling.serve(renewed);
    rig.onOpening = (opening) => void opening.accept();
    expect((await dialer.open(rig.request({ caller: renewed }))).kind).toBe('accepted');
    expect(rig.count('caller', 'full')).toBe(2);
    const reader = readerOf(far);
    near.write(Buffer.from('on'));
    await waitUntil('it goes on', () => reader.text === 'on');
    const ended = readerOf(near);
    near.end();
    far.end();
    await waitUntil('it ends', () => ended.closure);
    await waitUntil('the old connection is gone', () => dialer.connections === 1);
  });

  test('a connection that carries nothing ends after its time', async () => {
    const listener = rig.listen();
    const idleMs = 1000;
    const dialer = rig.hboneDialer(listener.port, { limits: { idleMs } });
    const { near, far } = await rig.openPair(dialer);
    rig.clock.pass(2 * idleMs);
    expect(dialer.connections).toBe(1);
    readerOf(far);
    readerOf(near);
    near.end();
    far.end();
    await waitUntil('it is gone', () => dialer.connections === 0 && listener.connections === 0);
  });
});

describe('an HBONE dialer before a server of another author', () => {
  test('asks as ztunnel does, and carries bytes and ends', async () => {
    const peer = new Peer(rig.targetSvid);
    const dialer = rig.hboneDialer(await peer.listen());
    const request = rig.request();
    const stream = streamOf(await dialer.open(request));
    const traceId = request.connectionId.replaceAll('-', '');
    expect(peer.asked[0]!.headers).toMatchObject({
      ':method': 'CONNECT',
      ':authority': '127.0.0.1:8080',
      baggage: 'service.name=shop',
      forwarded: 'for="192.0.2.7:40000"',
      traceparent: `00-${traceId}-${traceId.slice(16)}-00`,
    });
    expect([peer.asked[0]!.headers[':path'], peer.asked[0]!.headers[':scheme']]).toEqual([
      undefined,
      undefined,
    ]);
    const reader = readerOf(stream);
    const sent = Buffer.alloc(3_000_000, 'abc');
    let at = 0;
    while (at < sent.length) {
      const drains = reader.drains;
      const isRoom = stream.write(sent.subarray(at, at + 50_000));
      at += 50_000;
      if (!isRoom) await waitUntil('there is room', () => reader.drains > drains);
    }
    stream.end();
    await waitUntil('all has come back', () => reader.closure);
    expect(reader.closure).toEqual({ failure: undefined });
    expect(reader.bytes.equals(sent)).toBe(true);
  });

  test.each([
    ['401', { kind: 'denied', reason: 'policy_deny' }],
    ['403', { kind: 'denied', reason: 'policy_deny' }],
    ['400', { kind: 'failed', reason: 'protocol_error' }],
    ['503', { kind: 'failed', reason: 'target_unreachable' }],
    ['302', { kind: 'failed', reason: 'target_unreachable' }],
  ])('takes %s for what ztunnel means by it', async (status, outcome) => {
    const peer = new Peer(rig.targetSvid);
    peer.onConnect = (stream) => {
      stream.respond({ ':status': status });
      stream.end();
    };
    const request = rig.request();
    const dialer = rig.hboneDialer(await peer.listen());
    const seen = await dialer.open(request);
    expect(seen).toMatchObject(outcome);
    // The peer has given no id: the decision is told under ours.
    if (seen.kind === 'denied') expect(seen.decisionId).toBe(request.connectionId);
    expect(peer.asked).toHaveLength(1);
  });

  test('believes a reason only if it is one of a denial', async () => {
    const peer = new Peer(rig.targetSvid);
    peer.onConnect = (stream) => {
      stream.respond({ ':status': '401', 'picket-reason': 'policy_allow', 'picket-decision-id': 'evil' });
      stream.end();
    };
    const request = rig.request();
    expect(await rig.hboneDialer(await peer.listen()).open(request)).toMatchObject({
      kind: 'denied',
      reason: 'policy_deny',
      decisionId: request.connectionId,
    });
  });

  test('keeps to the streams that the peer takes', async () => {
    const peer = new Peer(rig.targetSvid, { settings: { maxConcurrentStreams: 3 } });
    const dialer = rig.hboneDialer(await peer.listen());
    await dialer.open(rig.request());
    await waitUntil('the peer has said what it takes', () => peer.sessions.length === 1);
    for (let i = 0; i < 6; i++) streamOf(await dialer.open(rig.request()));
    expect(peer.asked).toHaveLength(7);
    expect(dialer.connections).toBe(3);
  });

  test('keeps no connection to a peer that takes no streams, and asks it on no more than two', async () => {
    const peer = new Peer(rig.targetSvid, { settings: { maxConcurrentStreams: 0 } });
    const dialer = rig.hboneDialer(await peer.listen());
    for (let i = 1; i <= 5; i++) {
      const outcome = await dialer.open(rig.request());
      expect(outcome).toMatchObject({ kind: 'failed', reason: 'target_unreachable' });
      expect(rig.count('caller', 'full')).toBeLessThanOrEqual(2 * i);
    }
    await waitUntil('none is left', () => dialer.connections === 0);
    expect(peer.asked).toEqual([]);
  });

  test('lets go of a connection whose peer takes no more streams once it carries nothing', async () => {
    const peer = new Peer(rig.targetSvid);
    const dialer = rig.hboneDialer(await peer.listen());
    const stream = streamOf(await dialer.open(rig.request()));
    const reader = readerOf(stream);
    const { promise, resolve } = Promise.withResolvers<void>();
    peer.sessions[0]!.settings({ maxConcurrentStreams: 0 }, () => resolve());
    await promise;
    stream.write(Buffer.from('still'));
    await waitUntil('it goes on', () => reader.text === 'still');
    expect(dialer.connections).toBe(1);
    stream.end();
    await waitUntil('it is gone', () => dialer.connections === 0);
  });

  test('makes no more than so many connections to one peer, those left out that only end', async () => {
    const peer = new Peer(rig.targetSvid, { settings: { maxConcurrentStreams: 1 } });
    const dialer = rig.hboneDialer(await peer.listen(), { limits: { maxConnections: 2 } });
    const readers = [];
    for (let i = 0; i < 2; i++) readers.push(readerOf(streamOf(await dialer.open(rig.request()))));
    expect(await dialer.open(rig.request())).toMatchObject({ kind: 'failed', reason: 'overloaded' });
    peer.sessions[0]!.goaway(0);
    await waitUntil('one only ends', async () => (await dialer.open(rig.request())).kind === 'accepted');
    expect(readers.map(({ closure }) => closure)).toEqual([undefined, undefined]);
    expect(dialer.connections).toBe(3);
  });

  test('shares one handshake among all who come at once', async () => {
    const peer = new Peer(rig.targetSvid);
    const dialer = rig.hboneDialer(await peer.listen());
    const outcomes = await Promise.all(
      Array.from({ length: HBONE_LIMITS.ownStreams + 20 }, async () => await dialer.open(rig.request())),
    );
    expect(outcomes.every(({ kind }) => kind === 'accepted')).toBe(true);
    expect(peer.sessions).toHaveLength(2);
  });

  test('asks again on a new connection where nobody has looked, and only there', async () => {
    const peer = new Peer(rig.targetSvid);
    const dialer = rig.hboneDialer(await peer.listen());
    streamOf(await dialer.open(rig.request())).abort();
    peer.onConnect = (stream) => {
      // NGHTTP2_REFUSED_STREAM: it was not looked at (RFC 9113 8.7).
      if (peer.sessions.length === 1) stream.close(7);
      else stream.respond({ ':status': '200' });
    };
    expect((await dialer.open(rig.request())).kind).toBe('accepted');
    expect([peer.asked.length, peer.sessions.length]).toEqual([3, 2]);
    peer.onConnect = (stream) => stream.close(2);
    expect(await dialer.open(rig.request())).toMatchObject({ kind: 'failed', reason: 'target_unreachable' });
    expect(peer.asked).toHaveLength(4);
  });

  test('asks again where a connection that others used has died', async () => {
    const peer = new Peer(rig.targetSvid);
    const dialer = rig.hboneDialer(await peer.listen());
    streamOf(await dialer.open(rig.request()));
    peer.onConnect = (stream) => {
      if (peer.sessions.length === 1) peer.sessions[0]!.destroy();
      else stream.respond({ ':status': '200' });
    };
    expect((await dialer.open(rig.request())).kind).toBe('accepted');
  });

  test('opens nothing more on a connection whose peer goes away', async () => {
    const peer = new Peer(rig.targetSvid);
    const dialer = rig.hboneDialer(await peer.listen());
    const reader = readerOf(streamOf(await dialer.open(rig.request())));
    peer.sessions[0]!.goaway(0);
    await waitUntil('a new one is used', async () => {
      streamOf(await dialer.open(rig.request()));
      return peer.sessions.length === 2;
    });
    expect(reader.closure).toBeUndefined();
  });

  test('refuses whoever is not the one that it was told to expect', async () => {
    for (const svid of [
      await makeSvid(OTHER, rig.authority),
      await makeSvid(TARGET, await makeAuthority()),
    ]) {
      const peer = new Peer(svid);
      expect(await rig.hboneDialer(await peer.listen()).open(rig.request())).toMatchObject({
        kind: 'failed',
        reason: 'target_untrusted',
      });
      expect(peer.asked).toEqual([]);
    }
  });

  test('gives up a peer that does not answer, and ends its stream', async () => {
    const peer = new Peer(rig.targetSvid);
    peer.onConnect = () => undefined;
    const dialer = rig.hboneDialer(await peer.listen(), { limits: { answerMs: 200 } });
    expect(await dialer.open(rig.request())).toMatchObject({ kind: 'failed', reason: 'target_unreachable' });
    await waitUntil('the stream is ended', () => peer.asked[0]!.stream.destroyed);
  });

  test('a peer that resets a stream breaks it, also with the error that many take for an end', async () => {
    for (const code of [2, 8, 10]) {
      const peer = new Peer(rig.targetSvid);
      const dialer = rig.hboneDialer(await peer.listen());
      const reader = readerOf(streamOf(await dialer.open(rig.request())));
      peer.asked[0]!.stream.close(code);
      await waitUntil('it is broken', () => reader.closure);
      expect(reader.closure?.failure).toBeDefined();
    }
  });
});
