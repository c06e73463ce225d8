import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { spiffeServerName } from '../../../shared/spiffe/server-name.ts';
import { reasonOf } from '../../../tests/kit/reason-of.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { CALLER, makeAuthority, makeSvid, MeshRig, OTHER, streamOf, TARGET } from '../fixtures/mesh-rig.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import type { MeshListener } from './listener.ts';

/** The mesh port as clients meet it that are not ours: by node:tls and by bare bytes. What our own dialler meets stands in mesh-dialer.test.ts. */

setDefaultTimeout(60_000);

let rig: MeshRig;
const sockets: Socket[] = [];
beforeEach(async () => {
  rig = await MeshRig.create();
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await rig.stop();
});

/** What a client got to see until the connection ended, or until it was let in. */
interface Meeting {
  readonly socket: TLSSocket;
  names: string | undefined;
  isIn: boolean;
  isOver: boolean;
  error: string;
}

function meet(port: number, options: ConnectionOptions = {}): Meeting {
  const socket = connectTls({
    host: '127.0.0.1',
    port,
    servername: spiffeServerName(TARGET),
    ALPNProtocols: ['picket/1'],
    cert: rig.callerSvid.chainPem,
    key: rig.callerSvid.privateKeyPem,
    rejectUnauthorized: false,
    ...options,
  });
  sockets.push(socket);
  const meeting: Meeting = { socket, names: undefined, isIn: false, isOver: false, error: '' };
  socket.on('secureConnect', () => {
    meeting.isIn = true;
    meeting.names = socket.getPeerX509Certificate()?.subjectAltName;
  });
  socket.on('error', (error) => (meeting.error = error.message));
  socket.on('close', () => (meeting.isOver = true));
  return meeting;
}

/** Opens a TCP connection, sends bytes, and tells what came back until it ended. */
function sendBare(port: number, bytes: Uint8Array) {
  const socket = connectTcp(port, '127.0.0.1');
  sockets.push(socket);
  const heard = { socket, bytes: Buffer.alloc(0), isOver: false };
  socket.on('data', (data: Buffer) => (heard.bytes = Buffer.concat([heard.bytes, data])));
  socket.on('error', () => undefined);
  socket.on('close', () => (heard.isOver = true));
  socket.write(bytes);
  return heard;
}

/** The ClientHello that a client of ours sends, as bytes. */
async function recordHello(servername: string): Promise<Buffer> {
  let hello = Buffer.alloc(0);
  const sink = Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    socket: { data: (_socket, bytes) => void (hello = Buffer.concat([hello, bytes])) },
  });
  meet(sink.port, { servername });
  await waitUntil('the hello is whole', () => hello.length > 5 && hello.length >= 5 + hello.readUInt16BE(3));
  sink.stop(true);
  return hello;
}

async function isGone(listener: MeshListener): Promise<void> {
  await waitUntil('no connection is left', () => listener.connections === 0);
}

describe('startMeshListener()', () => {
  test('answers with the certificate of the workload that is asked for', async () => {
    rig.called.serve(rig.targetSvid, await makeSvid(OTHER, rig.authority));
    const { port } = rig.listen();
    for (const spiffeId of [TARGET, OTHER]) {
      const meeting = meet(port, { servername: spiffeServerName(spiffeId) });
      await waitUntil('it is let in', () => meeting.isIn);
      expect(meeting.names).toBe(`URI:${spiffeId}`);
    }
  });

  test('tells whoever asks for nobody here so by an alert, and shows no certificate', async () => {
    const listener = rig.listen();
    for (const servername of [spiffeServerName(OTHER), 'billing.example.org']) {
      const heard = sendBare(listener.port, await recordHello(servername));
      await waitUntil('it is over', () => heard.isOver);
      // A fatal alert, unrecognized_name (RFC 8446 6, RFC 6066 3).
      expect(heard.bytes).toEqual(Buffer.of(21, 3, 1, 0, 2, 2, 112));
    }
    await isGone(listener);
    expect(rig.count('called', 'failed')).toBe(2);
  });

  test('waits for a hello that comes in pieces', async () => {
    const { port } = rig.listen();
    const hello = await recordHello(spiffeServerName(TARGET));
    const heard = sendBare(port, hello.subarray(0, 3));
    heard.socket.setNoDelay();
    for (const [start, end] of [
      [3, 40],
      [40, 100],
      [100, hello.length],
    ]) {
      // Long enough for what was sent to be looked at by itself.
      await Bun.sleep(30);
      expect(heard.bytes).toHaveLength(0);
      heard.socket.write(hello.subarray(start, end));
    }
    // A handshake record with a ServerHello.
    await waitUntil('it is answered', () => heard.bytes[0] === 22 && heard.bytes[5] === 2);
  });

  test('ends what is no hello, and what does not come to one in time', async () => {
    const listener = rig.listen({ limits: { helloMs: 200 } });
    const bare = ['GET / HTTP/1.1\r\n\r\n', '\x16\x03\x01\x00\x05hello', ''].map((text) =>
      sendBare(listener.port, Buffer.from(text, 'latin1')),
    );
    for (const heard of bare) await waitUntil('it is over', () => heard.isOver);
    expect(bare.map(({ bytes }) => bytes.length)).toEqual([0, 0, 0]);
    await isGone(listener);
    expect(rig.openings).toEqual([]);
  });

  test('ends a handshake that is not gone through with in time', async () => {
    const listener = rig.listen({ limits: { handshakeMs: 200 } });
    const heard = sendBare(listener.port, await recordHello(spiffeServerName(TARGET)));
    await waitUntil('it is over', () => heard.isOver);
    await isGone(listener);
    expect(rig.count('called', 'failed')).toBe(1);
  });

  test('lets nobody in who shows no certificate, or one of another authority, or speaks another protocol', async () => {
    const listener = rig.listen();
    const foreign = await makeSvid(CALLER, await makeAuthority());
    const attempts: readonly ConnectionOptions[] = [
      { cert: undefined, key: undefined },
      { cert: foreign.chainPem, key: foreign.privateKeyPem },
      { ALPNProtocols: ['http/1.1'] },
      { maxVersion: 'TLSv1.2' },
    ];
    for (const attempt of attempts) {
      const meeting = meet(listener.port, attempt);
      await waitUntil('it is over', () => meeting.isOver);
    }
    await isGone(listener);
    expect([rig.count('called', 'full'), rig.openings.length]).toEqual([0, 0]);
  });

  test('takes no more than so many connections of one peer: the oldest that carries nothing gives way', async () => {
    const listener = rig.listen({ limits: { maxConnectionsPerPeer: 2 } });
    const first = [meet(listener.port), meet(listener.port)];
    await waitUntil('two are in', () => first.every(({ isIn }) => isIn));
    await waitUntil('their handshakes are over', () => rig.count('called', 'full') === 2);
    const third = meet(listener.port);
    await waitUntil('the third is in', () => third.isIn);
    await waitUntil('one of the others is over', () => first.some(({ isOver }) => isOver));
    expect([first.filter(({ isOver }) => isOver).length, listener.connections]).toEqual([1, 2]);
  });

  test('turns away newcomers of a peer whose connections all carry something', async () => {
    const listener = rig.listen({ limits: { maxConnectionsPerPeer: 2 } });
    rig.onOpening = (opening) => void opening.accept();
    const dialer = rig.dialer(listener.port);
    for (let i = 0; i < 2; i++) expect(await dialer.open(rig.request())).toMatchObject({ kind: 'accepted' });
    const third = meet(listener.port);
    await waitUntil('the third is turned away', () => third.isOver);
    expect([third.isIn, listener.connections]).toEqual([false, 2]);
  });

  test('ends a connection that carries nothing for too long', async () => {
    const listener = rig.listen({ limits: { idleMs: 200 } });
    const meeting = meet(listener.port);
    await waitUntil('it is in', () => meeting.isIn);
    await waitUntil('it is over', () => meeting.isOver);
    await isGone(listener);
  });

  test('serves a workload no more once its identity is withdrawn', async () => {
    const listener = rig.listen();
    const dialer = rig.dialer(listener.port);
    rig.onOpening = (opening) => void opening.accept();
    streamOf(await dialer.open(rig.request()));
    rig.called.serve();
    await isGone(listener);
    const heard = sendBare(listener.port, await recordHello(spiffeServerName(TARGET)));
    await waitUntil('it is over', () => heard.isOver);
    expect(heard.bytes.at(-1)).toBe(112);
  });

  test('stop() takes nothing more and ends what is left', async () => {
    const listener = rig.listen();
    const meeting = meet(listener.port);
    await waitUntil('it is in', () => rig.count('called', 'full') === 1);
    await listener.stop();
    await waitUntil('it is over', () => meeting.isOver);
    const late = sendBare(listener.port, Buffer.of());
    await waitUntil('nobody listens', () => late.isOver);
  });

  test('drain() takes nothing more, and lets a connection go after its first opening', async () => {
    const listener = rig.listen();
    const [idle, used] = [rig.dialer(listener.port), rig.dialer(listener.port)];
    const far = Promise.withResolvers<ByteStream>();
    rig.onOpening = (opening) => far.resolve(opening.accept());
    const bare = meet(listener.port);
    await waitUntil('one is in that has opened nothing', () => rig.count('called', 'full') === 1);
    const outcome = await used.open(rig.request());
    if (outcome.kind !== 'accepted') throw new Error(`It is ${outcome.kind}`);
    const reader = new CollectingReader();
    (await far.promise).attach(reader);
    listener.drain();
    await waitUntil('nobody listens', async () => (await idle.open(rig.request())).kind === 'failed');
    expect(bare.isOver).toBe(false);
    outcome.stream.write(Buffer.from('goes on'));
    (await far.promise).resume();
    await waitUntil('what is open goes on', () => reader.text === 'goes on');
    outcome.stream.end();
    (await far.promise).end();
    outcome.stream.attach(new CollectingReader());
    outcome.stream.resume();
    await waitUntil('its connection ends with it', () => listener.connections === 1);
  });

  test('refuses a port that is taken', () => {
    const { port } = rig.listen();
    expect(reasonOf(() => rig.listen({ port }))).toBe('listen_failed');
  });
});
