import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { createServer, type Server, type Socket, type AddressInfo } from 'node:net';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { encodeFields } from '../../../shared/wire/hpack-encoder.ts';
import { parseEnforcementScope } from '../../../shared/policy/enforcement.ts';
import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeRstStream,
  FLAG,
  FRAME,
} from '../../../shared/wire/http2-frame.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { attributesOf, TracesRig } from '../../traces/fixtures/traces-rig.ts';
import type { ServedProtocol } from '../../directory/directory.ts';
import type { ProcessIdentifier, ProcessIdentity } from '../../workload-attestation/process-identity.ts';
import type { Ends } from '../../quarantine/quarantine.ts';
import type { Arrival } from './arrival.ts';
import { OpenConnections } from '../connections/connections.ts';
import { systemClock } from '../../../shared/runtime/clock.ts';
import { FairTurns } from '../connections/fair-turns.ts';
import { clientHello } from '../fixtures/client-hello.ts';
import { InMemoryDirectory } from '../fixtures/in-memory-directory.ts';
import { JudgeRig } from '../fixtures/judge-rig.ts';
import { ScriptedStream, settled } from '../fixtures/scripted-stream.ts';
import { Inbound, type InboundOptions } from './inbound.ts';
import type { Refusal } from '../judge/judge.ts';

/** The called side, from an arrival to a real application on loopback. */

const WEB = parseSpiffeId('spiffe://example.org/web');
const INVOICES = parseSpiffeId('spiffe://example.org/invoices');
const SILENCE_MS = 10_000;
const REQUEST = 'GET /a HTTP/1.1\r\nHost: shop\r\n\r\n';

/** A program that listens: what it heard, and what it says to whoever comes. */
class Application {
  readonly sockets: Socket[] = [];
  heard = '';
  #greeting = '';
  readonly #server: Server;

  private constructor() {
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.sockets.push(socket);
      socket.on('data', (bytes) => (this.heard += bytes.toString('latin1')));
      socket.on('error', () => undefined);
      if (this.#greeting !== '') socket.write(this.#greeting);
    });
  }

  static async start(): Promise<Application> {
    const application = new Application();
    await new Promise<void>((resolve) => void application.#server.listen(0, '127.0.0.1', resolve));
    return application;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  greets(text: string): void {
    this.#greeting = text;
  }

  stop(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }
}

let application: Application;
let rig: JudgeRig;
let directory: InMemoryDirectory;
let connections: OpenConnections;
let options: InboundOptions;
let inbound: Inbound;
let listener: ProcessIdentity;
let client: ScriptedStream;
let denials: unknown[];
let accepted: number;
let loss: Refusal | undefined;

beforeEach(async () => {
  application = await Application.start();
  [rig, directory, connections] = [
    new JudgeRig(),
    new InMemoryDirectory(),
    new OpenConnections({ max: 8, maxPerHost: 8 }),
  ];
  listener = { kind: 'identified', spiffeId: INVOICES, pid: 1, uid: 0 };
  [client, denials, accepted, loss] = [new ScriptedStream(), [], 0, undefined];
  const processes: ProcessIdentifier = {
    identifyCaller: () => Promise.reject(new Error('This side asks for no caller')),
    identifyListener: () => Promise.resolve(listener),
    identitiesOf: () => Promise.reject(new Error('Nobody asks')),
    observe: () => undefined,
  };
  options = {
    judge: rig.judge,
    directory,
    processes,
    connections,
    turns: new FairTurns(systemClock),
    mark: 0,
    transparentZone: 0x504a,
    clock: rig.clock,
  };
  inbound = new Inbound(options);
  register('auto');
});
afterEach(() => application.stop());

const destination = () => ({ address: '127.0.0.1', port: application.port });

function register(protocol: ServedProtocol): void {
  directory.put(destination(), { kind: 'local', spiffeId: INVOICES, protocol });
}

async function arrive(change: Partial<Arrival> = {}): Promise<void> {
  await inbound.handle({
    connectionId: 'the-connection',
    caller: { spiffeId: WEB, notAfterMs: 5, serial: '0a', leaf: Buffer.from('leaf') },
    source: { address: '10.0.0.1', port: 40_000 },
    target: INVOICES,
    destination: change.destination ?? destination(),
    isLocal: true,
    endsAtMs: Infinity,
    process: null,
    findLoss: () => loss,
    onLeaving: () => undefined,
    accept: () => {
      accepted += 1;
      return client;
    },
    deny: (denial) => void denials.push(denial),
    ...change,
  });
}

async function hears(text: string): Promise<void> {
  await waitUntil(`the application hears ${text}`, () => application.heard.includes(text));
}

/** Denied with the connection's id, and nobody was touched. */
function expectTurnedAway(reason: string): void {
  expect(denials).toMatchObject([{ reason, decisionId: 'the-connection' }]);
  expect(rig.records).toMatchObject([{ decision_id: 'the-connection', reason, direction: 'inbound' }]);
  expect([accepted, application.sockets.length, connections.size]).toEqual([0, 0, 0]);
}

describe('Inbound before a program that asks for the PROXY protocol', () => {
  /** From 10.0.0.1 port 40,000 to 127.0.0.1 and its own port. */
  const header = (): string => {
    const port = Uint8Array.of(application.port >> 8, application.port & 0xff);
    const hex = '0d0a0d0a000d0a515549540a2111000c0a0000017f0000019c40';
    return Buffer.concat([Buffer.from(hex, 'hex'), port]).toString('latin1');
  };
  const ask = (protocol: ServedProtocol): void =>
    directory.put(destination(), { kind: 'local', spiffeId: INVOICES, protocol, proxyProtocol: 'v2' });

  test.each(['auto', 'http'] as const)(
    'tells it who comes, once and first, before requests (%s)',
    async (protocol) => {
      ask(protocol);
      const arrived = arrive();
      client.says(REQUEST);
      await arrived;
      await hears('GET /a HTTP/1.1');
      expect(application.heard.startsWith(`${header()}GET /a HTTP/1.1`)).toBe(true);
    },
  );

  test('tells it who comes before bytes, and passes a header of the client’s own on as his bytes', async () => {
    ask('tcp');
    await arrive();
    client.says('PROXY TCP4 203.0.113.9 203.0.113.10 1 2\r\n');
    await hears('1 2\r\n');
    expect(application.heard).toBe(`${header()}PROXY TCP4 203.0.113.9 203.0.113.10 1 2\r\n`);
  });

  test('tells it of a link-local caller without the zone', async () => {
    ask('tcp');
    await arrive({ source: { address: 'fe80::1%eth0', port: 40_000 } });
    client.says('hello');
    await hears('hello');
    const head = '0d0a0d0a000d0a515549540a21210024fe800000000000000000000000000001';
    expect(Buffer.from(application.heard, 'latin1').toString('hex').slice(0, head.length)).toBe(head);
    expect(application.heard.endsWith('hello')).toBe(true);
  });

  test('leaves no connection to it behind where it cannot be told who comes', async () => {
    ask('tcp');
    await arrive({ source: { address: 'nowhere', port: 40_000 } });
    expect(denials).toMatchObject([{ reason: 'application_unreachable' }]);
    // The first that it sees is one that comes later.
    await arrive();
    client.says('hello');
    await hears('hello');
    expect(application.sockets.length).toBe(1);
  });

  test('tells nothing of who may not', async () => {
    ask('tcp');
    rig.allow = () => 'policy_deny';
    await arrive();
    expectTurnedAway('policy_deny');
  });

  test('tells nothing where nobody asks for it', async () => {
    register('tcp');
    await arrive();
    client.says('hello');
    await hears('hello');
    expect(application.heard).toBe('hello');
  });
});

describe('Inbound turns away', () => {
  test('who asks for a port at which nothing of this host is registered', async () => {
    for (const answer of [
      { kind: 'outside' },
      { kind: 'unregistered' },
      { kind: 'remote', spiffeId: INVOICES, protocol: 'auto' },
    ] as const) {
      [denials, rig.records.length] = [[], 0];
      directory.put(destination(), answer);
      await arrive();
      expectTurnedAway('listener_not_registered');
    }
  });

  test('who asks for another workload than the one that is registered there', async () => {
    await arrive({ target: WEB });
    expectTurnedAway('listener_not_registered');
  });

  test('who comes from another host and asks for a loopback address', async () => {
    await arrive({ isLocal: false });
    expectTurnedAway('listener_not_registered');
  });

  test('who would get to a process that does not earn the identity', async () => {
    listener = { kind: 'unidentified', why: 'no_entry', pid: 1, uid: 0 };
    await arrive();
    expectTurnedAway('listener_unidentified');
    expect(rig.records[0]?.message).toContain('no_entry');
    [denials, rig.records.length] = [[], 0];
    listener = { kind: 'identified', spiffeId: WEB, pid: 1, uid: 0 };
    await arrive();
    expectTurnedAway('listener_unidentified');
  });

  test('whoever comes while there is no place', async () => {
    for (let i = 0; i < 8; i++) connections.tryEnter({ name: `party ${i}` });
    await arrive();
    expect(denials).toMatchObject([{ reason: 'overloaded' }]);
  });

  test('in whose crowd those that find no place have no span', async () => {
    await using tracesRig = new TracesRig();
    const { traces } = tracesRig;
    inbound = new Inbound({ ...options, traces });
    const leaves = Array.from({ length: 8 }, (_, i) => connections.tryEnter({ name: `party ${i}` }));
    const arriveStrange = async (change: Partial<Arrival> = {}): Promise<void> =>
      await arrive({ caller: null, connectionId: crypto.randomUUID(), ...change });
    await arriveStrange();
    for (const leave of leaves) leave?.();
    await arriveStrange({ target: WEB });
    await traces.stop();
    expect(rig.records.map(({ reason }) => reason)).toEqual(['overloaded', 'listener_not_registered']);
    expect(tracesRig.spans.map((span) => attributesOf(span)['picket.reason'])).toEqual([
      'listener_not_registered',
    ]);
  });

  test('who comes while an identity cannot be told', async () => {
    listener = undefined as unknown as ProcessIdentity;
    await arrive();
    expect(denials).toMatchObject([{ reason: 'application_unreachable' }]);
    expect(application.sockets).toEqual([]);
  });
});

describe('Inbound, of an end in quarantine,', () => {
  const EMPTY_SETTINGS = '\0\0\0\x04\0\0\0\0\0';
  const isWeb = ({ caller }: Ends): string | undefined =>
    caller.spiffeId === WEB && caller.certificateSerial === '0a' ? 'The caller is in quarantine' : undefined;

  test('refuses bytes before the application is touched', async () => {
    register('tcp');
    rig.hold = isWeb;
    await arrive();
    expectTurnedAway('quarantined');
  });

  test.each(['http', 'auto'] as const)(
    'answers a request at a listener of %s with 403 and the reason',
    async (protocol) => {
      register(protocol);
      rig.hold = isWeb;
      const arriving = arrive();
      await settled();
      client.says(REQUEST);
      await arriving;
      await waitUntil('it is answered', () => client.text.startsWith('HTTP/1.1 403'));
      expect(client.text).toContain('"reason":"quarantined","message":"The caller is in quarantine"');
      expect([application.sockets.length, rig.outcomes]).toEqual([0, ['http /a quarantined']]);
    },
  );

  test('cuts what is open: bytes, a request under way, an idle HTTP connection, one of HTTP/2, a silent one', async () => {
    register('tcp');
    await arrive();
    const bytes = client;
    register('http');
    client = new ScriptedStream();
    const idling = arrive();
    const idle = client;
    await settled();
    client = new ScriptedStream();
    client.says(REQUEST);
    await arrive();
    const asking = client;
    await hears('GET /a');
    client = new ScriptedStream();
    const multiplexed = client;
    const greeting = arrive();
    await settled();
    client.says(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${EMPTY_SETTINGS}`);
    await greeting;
    await waitUntil('it is greeted', () => multiplexed.text.length > 0);
    register('auto');
    client = new ScriptedStream();
    const silent = client;
    const arriving = arrive();
    await waitUntil('the application is connected', () => application.sockets.length === 3);
    expect(connections.size).toBe(5);

    rig.records.length = 0;
    rig.hold = ({ caller }) => (caller.spiffeId === INVOICES ? 'another' : undefined);
    connections.reconsiderAll();
    expect([rig.records.length, connections.size]).toEqual([0, 5]);
    rig.hold = isWeb;
    connections.reconsiderAll();
    await Promise.all([idling, arriving]);
    for (const { abortion } of [bytes, idle, asking, multiplexed, silent])
      expect(abortion?.failure).toMatchObject({ reason: 'quarantined' });
    expect(rig.records.map(({ reason }) => reason)).toEqual(Array.from({ length: 5 }, () => 'quarantined'));
    expect(rig.outcomes).toContain('http /a quarantined');
    expect(connections.size).toBe(0);
    await waitUntil('the application is cut off', () => application.sockets.every((each) => each.destroyed));
  });
});

describe('Inbound at a listener of bytes', () => {
  beforeEach(() => register('tcp'));

  test('passes what is allowed both ways, HTTP too, by one decision', async () => {
    await arrive();
    client.says(REQUEST);
    await hears(REQUEST);
    application.sockets[0]?.end('answer');
    await waitUntil('the answer is there', () => client.text === 'answer' && client.isEnded);
    expect(rig.records).toMatchObject([
      { decision_id: 'the-connection', protocol: 'tcp', decision: 'allow' },
    ]);
  });

  test('does not touch the application for what is not allowed', async () => {
    rig.allow = () => 'policy_deny';
    await arrive();
    expectTurnedAway('policy_deny');
  });

  test('does not touch the application when the decision cannot be written down', async () => {
    rig.hasRoom = false;
    await arrive();
    expect(denials).toMatchObject([{ reason: 'audit_unavailable' }]);
    expect([accepted, application.sockets.length]).toEqual([0, 0]);
  });

  test('says that the application refused', async () => {
    const at = destination();
    application.stop();
    await arrive({ destination: at });
    expect(denials).toMatchObject([{ reason: 'application_unreachable' }]);
    expect(rig.outcomes).toEqual(['tcp policy_allow', 'tcp application_unreachable']);
  });

  test('cuts both sides when the permit is gone, with the decision behind it', async () => {
    await arrive();
    rig.allow = () => 'policy_deny';
    connections.reconsiderAll();
    const failure = {
      reason: 'policy_deny',
      decisionId: 'id-1',
      message: 'no rule of the policy allows it',
    } as const;
    expect(client.abortion).toEqual({ failure });
    await waitUntil('the application is cut off', () => application.sockets[0]?.destroyed === true);
    expect(rig.outcomes).toEqual(['tcp policy_allow', 'tcp policy_deny']);
    expect(connections.size).toBe(0);
  });

  test('cuts when the listener is no longer registered, and when the caller is no longer who it was', async () => {
    await arrive();
    directory.put(destination(), { kind: 'unregistered' });
    connections.reconsiderAll();
    expect(client.abortion).toMatchObject({ failure: { reason: 'listener_not_registered' } });
    register('tcp');
    client = new ScriptedStream();
    await arrive();
    connections.reconsiderAll();
    expect(client.abortion).toBeUndefined();
    loss = { reason: 'caller_unidentified' };
    connections.reconsiderAll();
    expect(client.abortion).toMatchObject({ failure: { reason: 'caller_unidentified' } });
  });

  test('does not let a connection through whose permit was lost while the application was dialled', async () => {
    rig.allow = () => {
      queueMicrotask(() => {
        rig.allow = () => 'policy_deny';
        connections.reconsiderAll();
      });
      return 'policy_allow';
    };
    await arrive();
    expect(client.abortion).toMatchObject({ failure: { reason: 'policy_deny' } });
    await waitUntil('the application is cut off', () => application.sockets[0]?.destroyed === true);
    expect(application.heard).toBe('');
  });
});

describe('Inbound at a listener of HTTP', () => {
  beforeEach(() => register('http'));

  test('decides each request, with the caller’s identity in it, and touches the application for an allowed one only', async () => {
    rig.allow = ({ http }) => (http?.path === '/a' ? 'policy_allow' : 'policy_deny');
    client.says('GET /b HTTP/1.1\r\nHost: shop\r\n\r\n');
    await arrive();
    await waitUntil('it is answered', () => client.text.startsWith('HTTP/1.1 403'));
    expect(application.sockets).toEqual([]);
    client.says(REQUEST);
    await hears('\r\n\r\n');
    expect(application.heard).toMatch(
      /x-forwarded-client-cert: By=spiffe:\/\/example\.org\/invoices;.*URI=spiffe:\/\/example\.org\/web/i,
    );
    expect(rig.outcomes).toEqual(['http /b policy_deny', 'http /a policy_allow']);
    expect(rig.records.map((record) => record.decision_id)).toEqual(['id-1', 'id-2']);
  });

  test('leaves a connection without a request under way alone, and cuts the request that lost its permit', async () => {
    rig.allow = () => 'policy_deny';
    client.says(REQUEST);
    await arrive();
    await waitUntil('it is answered', () => client.text.startsWith('HTTP/1.1 403'));
    connections.reconsiderAll();
    expect(client.abortion).toBeUndefined();
    rig.allow = () => 'policy_allow';
    client.says(REQUEST);
    await hears('\r\n\r\n');
    rig.allow = () => 'policy_deny';
    connections.reconsiderAll();
    expect(client.abortion).toMatchObject({ failure: { reason: 'policy_deny' } });
  });
});

/** A client's preface, empty SETTINGS, and GET of a path. */
function http2Request(path: string): string {
  const fields = [':method GET', ':scheme http', `:path ${path}`, ':authority shop'].map((line) => {
    const [name = '', value = ''] = line.split(' ');
    return { name, value };
  });
  const payload = encodeFields(fields);
  const request = encodeFrame(FRAME.headers, 1, { flags: FLAG.endHeaders | FLAG.endStream, payload });
  return Buffer.concat([CLIENT_PREFACE, encodeFrame(FRAME.settings, 0), request]).toString('latin1');
}

describe.each(['auto', 'http'] as const)('Inbound at a listener of %s', (protocol) => {
  beforeEach(() => register(protocol));

  test('takes HTTP/2 for requests, and touches the application for an allowed one only', async () => {
    rig.allow = ({ http }) => (http?.path === '/a' ? 'policy_allow' : 'policy_deny');
    client.says(http2Request('/b'));
    await arrive();
    await waitUntil('it is answered', () => client.text.includes('policy_deny'));
    expect(application.sockets).toEqual([]);
    client = new ScriptedStream();
    client.says(http2Request('/a'));
    await arrive();
    await hears('URI=spiffe://example.org/web');
    expect(application.heard).toStartWith('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    expect(rig.outcomes).toEqual(['http /b policy_deny', 'http /a policy_allow']);
  });

  test('judges each stream of HTTP/2 again, and the connection with its caller', async () => {
    rig.allow = ({ http }) => (http === null ? 'policy_deny' : 'policy_allow');
    client.says(http2Request('/a'));
    await arrive();
    await hears('URI=spiffe://example.org/web');
    rig.allow = () => 'policy_deny';
    connections.reconsiderAll();
    expect(client.abortion).toBeUndefined();
    expect(client.text).toContain(Buffer.from(encodeRstStream(1, 'cancel')).toString('latin1'));
    expect(rig.outcomes).toEqual(['http /a policy_allow', 'http /a policy_deny']);
    loss = { reason: 'caller_unidentified' };
    connections.reconsiderAll();
    expect(client.abortion).toMatchObject({ failure: { reason: 'caller_unidentified' } });
    expect(connections.size).toBe(0);
  });
});

describe('Inbound on a connection that has waited before anything was allowed on it', () => {
  const NOBODY: ProcessIdentity = { kind: 'unidentified', why: 'no_entry', pid: 1, uid: 7 };

  /** Nothing of it was allowed yet when somebody else takes the port, `afterMs` after it was looked who listens. */
  async function waits(afterMs: number): Promise<void> {
    rig.clock.advance(afterMs);
    listener = NOBODY;
    rig.allow = () => 'policy_allow';
    await settled();
  }

  async function isDenied(first: string): Promise<void> {
    rig.allow = () => 'policy_deny';
    client.says(first);
    await arrive();
    await waitUntil('it is denied', () => client.text.includes('policy_deny'));
  }

  function expectNobodyTouched(): void {
    expect(application.sockets).toEqual([]);
    expect(rig.records.at(-1)).toMatchObject({ decision: 'deny', reason: 'listener_unidentified' });
  }

  test('does not send a request to another process', async () => {
    await isDenied(REQUEST);
    await waits(100);
    client.says(REQUEST);
    await waitUntil('it is refused', () => client.text.includes('502'));
    expect(client.text).toContain('listener_unidentified');
    expectNobodyTouched();
  });

  test('does not send a request of HTTP/2 to another process', async () => {
    await isDenied(http2Request('/b'));
    await waits(100);
    const request = http2Request('/a').slice(CLIENT_PREFACE.length + encodeFrame(FRAME.settings, 0).length);
    client.says(`${request.slice(0, 8)}\x03${request.slice(9)}`);
    await waitUntil('it is refused', () => client.text.includes('listener_unidentified'));
    expectNobodyTouched();
  });

  test('does not send the client’s own TLS to another process', async () => {
    rig.allow = () => 'policy_deny';
    const arriving = arrive();
    await waitUntil('it waits', () => rig.clock.pending > 0);
    await waits(100);
    client.says(clientHello('shop.test'));
    await arriving;
    expect(client.abortion).toMatchObject({ failure: { reason: 'listener_unidentified' } });
    expectNobodyTouched();
  });

  test('asks who listens once for a connection on which something is allowed at once', async () => {
    await isDenied(REQUEST);
    await waits(99);
    client.says(REQUEST);
    await hears(REQUEST.slice(0, 4));
  });
});

describe('Inbound to a service in audit mode', () => {
  beforeEach(() => {
    rig.modes.set(new Map([[parseEnforcementScope(INVOICES), 'audit']]));
    rig.allow = () => 'policy_deny';
  });

  /** Enforced again, what is open is cut as any other that lost its permit. */
  function enforce(): void {
    rig.modes.set(new Map());
    connections.reconsiderAll();
  }

  const wouldDeny = (protocol: 'http' | 'tcp') =>
    ({ protocol, decision: 'allow', would_deny: true, reason: 'policy_deny' }) as const;

  test.each(['auto', 'http'] as const)('passes requests at a listener of %s, marked', async (protocol) => {
    register(protocol);
    client.says(REQUEST);
    await arrive();
    await hears('\r\n\r\n');
    expect(rig.records).toMatchObject([wouldDeny('http')]);
    enforce();
    expect(client.abortion).toMatchObject({ failure: { reason: 'policy_deny' } });
    expect(rig.records[1]).toMatchObject({ decision: 'deny', reason: 'policy_deny' });
    expect(rig.records[1]).not.toHaveProperty('would_deny');
  });

  test('passes streams of HTTP/2, marked', async () => {
    client.says(http2Request('/a'));
    await arrive();
    await hears('URI=spiffe://example.org/web');
    expect(rig.records).toMatchObject([wouldDeny('http')]);
    enforce();
    expect(client.text).toContain(Buffer.from(encodeRstStream(1, 'cancel')).toString('latin1'));
  });

  test.each(['auto', 'tcp'] as const)('passes bytes at a listener of %s, marked', async (protocol) => {
    register(protocol);
    client.says('HELO shop\r\n');
    await arrive();
    await hears('HELO shop\r\n');
    expect(rig.records).toMatchObject([wouldDeny('tcp')]);
    enforce();
    expect(client.abortion).toMatchObject({ failure: { reason: 'policy_deny' } });
  });

  test('passes callers without identity, and nobody to a process that is not the service', async () => {
    client.says(REQUEST);
    await arrive({ caller: null, target: null });
    await hears('\r\n\r\n');
    expect(rig.records).toMatchObject([{ ...wouldDeny('http'), caller_spiffe_id: null }]);
    listener = { kind: 'unidentified', why: 'no_entry', pid: 1, uid: 0 };
    await arrive();
    expect(denials).toMatchObject([{ reason: 'listener_unidentified' }]);
  });
});

describe('Inbound at a listener of whatever comes, where the policy allows the connection', () => {
  test('connects the application at once, and lets it speak first', async () => {
    application.greets('220 welcome\r\n');
    const arriving = arrive();
    await waitUntil('the greeting is there', () => client.text === '220 welcome\r\n');
    await arriving;
    client.says('HELO shop\r\n');
    await hears('HELO shop\r\n');
    expect(rig.outcomes).toEqual(['tcp policy_allow']);
  });

  test('decides requests by themselves all the same', async () => {
    rig.allow = ({ http }) => (http === null ? 'policy_allow' : 'policy_deny');
    const arriving = arrive();
    await waitUntil('the application is connected', () => application.sockets.length > 0);
    client.says(REQUEST);
    await arriving;
    await waitUntil('it is answered', () => client.text.startsWith('HTTP/1.1 403'));
    expect([application.heard, rig.outcomes]).toEqual(['', ['http /a policy_deny']]);
  });

  test('passes no byte when the decision cannot be written down', async () => {
    rig.hasRoom = false;
    const arriving = arrive();
    await waitUntil('the application is connected', () => application.sockets.length > 0);
    client.says('\0\0');
    await arriving;
    expect(client.abortion).toMatchObject({ failure: { reason: 'audit_unavailable' } });
    await waitUntil('the application is cut off', () => application.sockets[0]?.destroyed === true);
    expect(application.heard).toBe('');
  });

  test('takes silence within a request line for no HTTP and no permit', async () => {
    const arriving = arrive();
    await waitUntil('the application is connected', () => application.sockets.length > 0);
    client.says('GET');
    await settled();
    rig.clock.advance(SILENCE_MS);
    await arriving;
    expect(client.abortion).toMatchObject({ failure: { reason: 'protocol_error' } });
    expect(application.heard).toBe('');
  });

  test('gives a connection that kept silent no permit that is none any more', async () => {
    const arriving = arrive();
    await waitUntil('the application is connected', () => application.sockets.length > 0);
    rig.allow = () => 'policy_deny';
    connections.reconsiderAll();
    client.says('\0\0');
    await arriving;
    expect(client.abortion).toMatchObject({
      failure: { reason: 'policy_deny', decisionId: 'the-connection' },
    });
    expect([application.heard, rig.outcomes]).toEqual(['', ['tcp policy_deny']]);
  });
});

describe('Inbound at a listener of whatever comes, where the policy does not allow the connection', () => {
  beforeEach(() => {
    rig.allow = ({ http }) => (http?.path === '/a' ? 'policy_allow' : 'policy_deny');
  });

  test('lets an allowed request through', async () => {
    const arriving = arrive();
    await settled();
    client.says(REQUEST);
    await arriving;
    await hears('GET /a');
    expect(rig.outcomes).toEqual(['http /a policy_allow']);
  });

  test('denies bytes that are no request by the decision on the connection, and does not touch the application', async () => {
    const arriving = arrive();
    await settled();
    client.says('\0\0');
    await arriving;
    expect(client.abortion).toMatchObject({
      failure: { reason: 'policy_deny', decisionId: 'the-connection' },
    });
    expect(rig.records).toMatchObject([{ decision_id: 'the-connection', protocol: 'tcp' }]);
    expect(application.sockets).toEqual([]);
  });

  test('lets the client’s own TLS through where the policy allows the name, with all that was said, and takes it back', async () => {
    rig.allow = ({ tls }) => (tls?.serverName === 'shop.test' ? 'policy_allow' : 'policy_deny');
    const hello = clientHello('shop.test');
    const arriving = arrive();
    client.says(hello.slice(0, 20));
    expect(application.sockets).toEqual([]);
    client.says(hello.slice(20));
    await arriving;
    await hears(hello);
    expect(rig.records).toMatchObject([
      { decision_id: 'the-connection', decision: 'allow', protocol: 'tls', path: null },
    ]);
    rig.allow = () => 'policy_deny';
    connections.reconsiderAll();
    expect(client.abortion).toMatchObject({ failure: { reason: 'policy_deny' } });
  });

  test('denies TLS by another name, or by none, before the application is touched', async () => {
    rig.allow = ({ tls }) => (tls?.serverName === 'shop.test' ? 'policy_allow' : 'policy_deny');
    for (const words of [clientHello('other.test'), '\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00']) {
      client = new ScriptedStream();
      const arriving = arrive();
      client.says(words);
      await arriving;
      expect(client.abortion).toMatchObject({ failure: { reason: 'policy_deny' } });
    }
    expect(rig.records.map(({ protocol }) => protocol)).toEqual(['tls', 'tcp']);
    expect(application.sockets).toEqual([]);
  });

  test('lets nobody hold it up with blank lines without end', async () => {
    const arriving = arrive();
    client.says('\r\n'.repeat(10_000));
    await arriving;
    expect(client.text).toStartWith('HTTP/1.1 400');
    expect(application.sockets).toEqual([]);
  });

  test('says of TLS that is allowed that the application was not reached', async () => {
    rig.allow = ({ tls }) => (tls === undefined ? 'policy_deny' : 'policy_allow');
    const arriving = arrive();
    application.stop();
    client.says(clientHello('shop.test'));
    await arriving;
    expect(client.abortion).toMatchObject({ failure: { reason: 'application_unreachable' } });
  });

  test('denies silence after a while', async () => {
    const arriving = arrive();
    await waitUntil('it waits', () => rig.clock.pending > 0);
    rig.clock.advance(SILENCE_MS);
    await arriving;
    expect(client.abortion).toMatchObject({ failure: { reason: 'policy_deny' } });
    expect(application.sockets).toEqual([]);
  });
});
