import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { DecisionRequest } from '../../../shared/policy/decision.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import type { Departure } from '../outbound/departure.ts';
import { OpenConnections } from '../connections/connections.ts';
import { clientHello } from '../fixtures/client-hello.ts';
import { InMemoryDirectory } from '../fixtures/in-memory-directory.ts';
import { JudgeRig } from '../fixtures/judge-rig.ts';
import { CALLER, TARGET } from '../fixtures/mesh-rig.ts';
import { outsideRig } from '../fixtures/outside-rig.ts';
import { ScriptedStream, settled } from '../fixtures/scripted-stream.ts';
import type { Refusal } from '../judge/judge.ts';
import { leavingOfDeparture } from './leaving.ts';
import type { Outside } from './outside.ts';

/** A server outside of the mesh is real; the program is the test's. */

const HELLO = clientHello('api.test');

let rig: JudgeRig;
let directory: InMemoryDirectory;
let connections: OpenConnections;
let program: ScriptedStream;
let server: Server;
let sockets: Socket[];
let heard: string;
/** Names that were looked up, and those that lead to the server. */
let asked: string[];
let leading: ReadonlySet<string>;
let loss: Refusal | undefined;
/** What happens while a name is looked up. */
let whileAsked: () => void;
let outside: Outside;

beforeEach(async () => {
  [rig, directory, connections] = [
    new JudgeRig(),
    new InMemoryDirectory(),
    new OpenConnections({ max: 8, maxPerHost: 8 }),
  ];
  [program, sockets, heard, asked, leading, loss] = [new ScriptedStream(), [], '', [], new Set(), undefined];
  whileAsked = () => undefined;
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      heard += bytes.toString('latin1');
      if (heard.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  outside = outsideRig({
    rig,
    directory,
    connections,
    domains: {
      leadsTo: (domain, address) => {
        asked.push(`${domain} ${address}`);
        whileAsked();
        return Promise.resolve(leading.has(domain));
      },
    },
  });
});
afterEach(() => {
  connections.cutAll({ message: 'over' });
  for (const socket of sockets) socket.destroy();
  server.close();
});

function leave(): Promise<void> {
  const { port } = server.address() as AddressInfo;
  const departure: Departure = {
    party: { name: 'user 7001' },
    stream: program,
    source: { address: '10.0.0.1', port: 40_000 },
    destination: { address: '127.0.0.1', port },
    connectionId: 'connection',
    svid: null,
    identity: { kind: 'identified', spiffeId: CALLER, pid: 7, uid: 7001 },
    process: { uid: 7001, pid: 7 },
    round: connections.round,
  };
  return outside.leave(leavingOfDeparture(departure, () => loss));
}

/** An egress rule that allows one name. */
function allowOnly(domain: string): void {
  rig.egress = ({ target }: DecisionRequest) => (target.domain === domain ? 'policy_allow' : 'egress_deny');
}

describe('TLS out of the mesh', () => {
  test('goes where its name leads if the policy allows the name, with every byte that was said', async () => {
    allowOnly('api.test');
    leading = new Set(['api.test']);
    const left = leave();
    program.says(HELLO);
    await left;
    await waitUntil('the server hears it', () => heard === HELLO);
    expect(asked).toEqual(['api.test 127.0.0.1']);
    expect(rig.records).toMatchObject([
      { decision: 'allow', protocol: 'tls', server_name: 'api.test', decision_id: 'connection' },
    ]);
  });

  test('does not go to another address in a name’s stead, and says why', async () => {
    allowOnly('api.test');
    const left = leave();
    program.says(HELLO);
    await left;
    expect(program.abortion?.failure?.reason).toBe('domain_unverified');
    expect(rig.records).toMatchObject([
      { decision: 'deny', reason: 'domain_unverified', protocol: 'tls', server_name: 'api.test' },
    ]);
    expect([heard, sockets.length]).toEqual(['', 0]);
  });

  test('to a name that the policy does not allow is denied, and DNS is not even asked', async () => {
    allowOnly('other.test');
    leading = new Set(['api.test', 'other.test']);
    const left = leave();
    program.says(HELLO);
    await left;
    expect(rig.records).toMatchObject([{ reason: 'egress_deny', server_name: 'api.test' }]);
    expect([asked, sockets.length]).toEqual([[], 0]);
  });

  test('is cut when the policy takes the name back', async () => {
    allowOnly('api.test');
    leading = new Set(['api.test']);
    const left = leave();
    program.says(HELLO);
    await left;
    connections.reconsiderAll();
    expect(program.abortion).toBeUndefined();
    allowOnly('other.test');
    connections.reconsiderAll();
    expect(program.abortion).toBeDefined();
    expect(rig.records.at(-1)).toMatchObject({ reason: 'egress_deny', server_name: 'api.test' });
  });
});

describe('requests out of the mesh', () => {
  const get = (host: string): string =>
    `GET / HTTP/1.1\r\nHost: ${host}\r\nX-Forwarded-Client-Cert: URI=spiffe://a/b\r\n\r\n`;

  test('go where their names lead, each decided by its own, and tell nobody who calls', async () => {
    rig.egress = ({ target, http }) =>
      target.domain === 'api.test' && http?.method === 'GET' ? 'policy_allow' : 'egress_deny';
    leading = new Set(['api.test']);
    const left = leave();
    program.says(get('api.test:80'));
    await left;
    await waitUntil('it is answered', () => program.text.endsWith('ok'));
    expect(heard).toBe('GET / HTTP/1.1\r\nHost: api.test:80\r\n\r\n');
    program.says('DELETE / HTTP/1.1\r\nHost: api.test\r\n\r\n');
    await waitUntil('it is refused', () => program.text.includes('403'));
    expect(heard).not.toContain('DELETE');
    expect(rig.records).toMatchObject([
      { decision: 'allow', method: 'GET', protocol: 'http', server_name: 'api.test' },
      { decision: 'deny', method: 'DELETE', reason: 'egress_deny', server_name: 'api.test' },
    ]);
  });

  test('to a second name on the same connection wait for nobody: refused until the name is known', async () => {
    rig.egress = ({ target }) => (target.domain === undefined ? 'egress_deny' : 'policy_allow');
    leading = new Set(['api.test', 'second.test']);
    const left = leave();
    program.says(get('api.test'));
    await left;
    await waitUntil('it is answered', () => program.text.endsWith('ok'));
    program.says(get('second.test'));
    await waitUntil('it is refused', () => program.text.includes('domain_unverified'));
    await settled();
    program.says(get('second.test'));
    await waitUntil('it passes', () => heard.includes('second.test'));
    expect(rig.records.map(({ reason }) => reason)).toEqual([
      'policy_allow',
      'domain_unverified',
      'policy_allow',
    ]);
    expect(asked).toEqual(['api.test 127.0.0.1', 'second.test 127.0.0.1']);
  });

  test('are over before they begin when the permit goes while the name is looked up', async () => {
    rig.egress = ({ target }) => (target.domain === undefined ? 'egress_deny' : 'policy_allow');
    leading = new Set(['api.test']);
    whileAsked = () => {
      loss = { reason: 'caller_unidentified' };
      connections.reconsiderAll();
    };
    const left = leave();
    program.says(get('api.test'));
    await left;
    expect(program.abortion?.failure?.reason).toBe('caller_unidentified');
    expect(rig.records.map(({ reason }) => reason)).toEqual(['caller_unidentified']);
    expect([sockets.length, connections.size]).toEqual([0, 0]);
  });

  test('that can be read in two ways are refused before any name is looked up', async () => {
    rig.egress = ({ target }) => (target.domain === undefined ? 'egress_deny' : 'policy_allow');
    const left = leave();
    program.says('GET / HTTP/1.1\r\nHost: api.test\r\nHost: evil.test\r\n\r\n');
    await left;
    expect(program.text).toStartWith('HTTP/1.1 400');
    expect([asked, sockets.length]).toEqual([[], 0]);
  });
});

describe('a connection that names nobody', () => {
  test('is decided by its address alone, and the answer does not come before its words', async () => {
    allowOnly('api.test');
    const left = leave();
    await settled();
    expect([program.abortion, rig.records]).toEqual([undefined, []]);
    program.says('SSH-2.0-OpenSSH\r\n');
    await left;
    expect(rig.records).toMatchObject([{ reason: 'egress_deny', protocol: 'tcp' }]);
    expect(program.abortion?.failure?.reason).toBe('egress_deny');
  });

  test('is not waited for where the address is allowed, nor where no rule asks for names', async () => {
    await leave();
    await waitUntil('the server is connected', () => sockets.length === 1);
    rig.asksForDomain = false;
    rig.egress = () => 'egress_deny';
    program = new ScriptedStream();
    await leave();
    expect(program.abortion?.failure?.reason).toBe('egress_deny');
  });

  test('keeps no permit while it is silent: it is cut when its identity goes, or its address joins the mesh', async () => {
    allowOnly('api.test');
    const first = leave();
    await settled();
    loss = { reason: 'caller_unidentified' };
    connections.reconsiderAll();
    await first;
    expect(program.abortion?.failure?.reason).toBe('caller_unidentified');
    loss = undefined;
    program = new ScriptedStream();
    const second = leave();
    await settled();
    const { port } = server.address() as AddressInfo;
    directory.put({ address: '127.0.0.1', port }, { kind: 'remote', spiffeId: TARGET, protocol: 'auto' });
    connections.reconsiderAll();
    await second;
    expect(program.abortion?.failure?.reason).toBe('target_unknown');
  });
});

describe('what leaves on terms', () => {
  const GATEWAY = TARGET;
  let far: ScriptedStream;
  let opened: object[];
  let refusal: Refusal | undefined;
  let isHere: boolean;
  /** Why this host as the gateway takes nothing there. */
  let closed: Refusal | undefined;
  /** Why it is none any more. */
  let lost: Refusal | undefined;
  let fault: string | undefined;
  let checked: object[];

  beforeEach(() => {
    [closed, lost] = [undefined, undefined];
    [far, opened, refusal, isHere, fault, checked] = [
      new ScriptedStream(),
      [],
      undefined,
      false,
      undefined,
      [],
    ];
    rig.terms = () => ({ via: GATEWAY });
    outside = outsideRig({
      rig,
      directory,
      connections,
      domains: { leadsTo: (domain) => Promise.resolve(leading.has(domain)) },
      certificates: {
        findFault: (at, terms) => {
          checked.push({ ...at, ...terms });
          return Promise.resolve(fault);
        },
      },
      gateways: {
        isHere: () => isHere,
        open: (_, encounter, via) => {
          opened.push({ via, domain: encounter.target.domain });
          return Promise.resolve(
            refusal === undefined ? { far, encounter, leave: () => undefined } : { refusal },
          );
        },
      },
      reach: { findRefusal: () => Promise.resolve(closed), findLoss: () => lost },
    });
  });

  test('of this host goes on until this is none any more', async () => {
    isHere = true;
    await leave();
    await waitUntil('the server is connected', () => sockets.length === 1);
    connections.reconsiderAll();
    expect(program.abortion).toBeUndefined();
    lost = { reason: 'listener_unidentified', message: 'not any more' };
    connections.reconsiderAll();
    expect(program.abortion?.failure).toMatchObject({ reason: 'listener_unidentified' });
    expect(rig.records.at(-1)).toMatchObject({
      decision: 'deny',
      reason: 'listener_unidentified',
      via: GATEWAY,
    });
  });

  test('goes to the gateway with all that was said, and never to the server', async () => {
    allowOnly('api.test');
    leading = new Set(['api.test']);
    const left = leave();
    program.says(HELLO);
    await left;
    expect([opened, far.text]).toEqual([[{ via: GATEWAY, domain: 'api.test' }], HELLO]);
    expect(rig.records).toMatchObject([{ decision: 'allow', via: GATEWAY, server_name: 'api.test' }]);
    expect(sockets).toEqual([]);
  });

  test('is refused where no gateway takes it, and not sent directly', async () => {
    refusal = { reason: 'target_unreachable', message: 'it is gone' };
    await leave();
    expect(program.abortion?.failure).toMatchObject({ reason: 'target_unreachable', message: 'it is gone' });
    expect(rig.records.at(-1)).toMatchObject({
      decision: 'deny',
      reason: 'target_unreachable',
      via: GATEWAY,
    });
    expect(sockets).toEqual([]);
  });

  test('tells a program’s user what the gateway decided later', async () => {
    await leave();
    far.closes({ reason: 'domain_unverified', decisionId: 'theirs', message: 'not there' });
    await settled();
    expect(rig.records.at(-1)).toMatchObject({
      decision_id: 'theirs',
      reason: 'domain_unverified',
      direction: 'outbound',
      via: GATEWAY,
    });
  });

  test('leaves from here where this host is the gateway, and may take it there as one', async () => {
    isHere = true;
    await leave();
    await waitUntil('the server is connected', () => sockets.length === 1);
    expect([opened, rig.records.at(-1)?.via]).toEqual([[], GATEWAY]);
    [program, closed] = [new ScriptedStream(), { reason: 'egress_deny', message: 'not there' }];
    await leave();
    expect(program.abortion?.failure).toMatchObject({ reason: 'egress_deny', message: 'not there' });
    expect(sockets.length).toBe(1);
  });

  test('is cut when the policy sends it another way', async () => {
    await leave();
    connections.reconsiderAll();
    expect(program.abortion).toBeUndefined();
    rig.terms = () => undefined;
    connections.reconsiderAll();
    expect(program.abortion?.failure?.reason).toBe('egress_deny');
    expect(far.abortion).toBeDefined();
  });

  test('takes one way for all requests of a connection: those that are sent another are refused', async () => {
    rig.egress = ({ http }) => (http === null ? 'egress_deny' : 'policy_allow');
    rig.terms = ({ http }) => (http?.path === '/' ? { via: GATEWAY } : undefined);
    const left = leave();
    program.says('GET / HTTP/1.1\r\nHost: api.test\r\n\r\n');
    await left;
    await settled();
    far.says('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    program.says('GET /direct HTTP/1.1\r\nHost: api.test\r\n\r\n');
    await waitUntil('it is refused', () => program.text.includes('403'));
    expect(far.text).not.toContain('/direct');
    expect([opened.length, sockets.length]).toEqual([1, 0]);
  });

  test('answers 502 to a request that no gateway takes, and records why', async () => {
    rig.egress = ({ http }) => (http === null ? 'egress_deny' : 'policy_allow');
    refusal = { reason: 'quarantined', message: 'held' };
    const left = leave();
    program.says('GET / HTTP/1.1\r\nHost: api.test\r\n\r\n');
    await left;
    await waitUntil('it is answered', () => program.text.startsWith('HTTP/1.1 502'));
    expect(rig.records.at(-1)).toMatchObject({ reason: 'quarantined', decision: 'deny', via: GATEWAY });
    expect(sockets).toEqual([]);
  });

  test('waits for TLS where a certificate is asked for, and is refused without TLS', async () => {
    rig.terms = () => ({ certificate: { authority: 'partner' } });
    const left = leave();
    program.says(HELLO);
    await left;
    await waitUntil('the server hears it', () => heard === HELLO);
    expect(checked).toMatchObject([{ serverName: 'api.test', authority: 'partner' }]);
    program = new ScriptedStream();
    const plain = leave();
    program.says('SSH-2.0-OpenSSH\r\n');
    await plain;
    expect(program.abortion?.failure?.reason).toBe('certificate_refused');
    program = new ScriptedStream();
    const http = leave();
    program.says('GET / HTTP/1.1\r\nHost: api.test\r\n\r\n');
    await http;
    await waitUntil('it is refused', () => program.text.startsWith('HTTP/1.1 403'));
    expect(sockets).toHaveLength(1);
  });

  test('is refused where the server proves another certificate; of what a gateway takes the gateway asks', async () => {
    rig.terms = () => ({ certificate: { authority: 'partner' } });
    fault = 'it is another';
    const left = leave();
    program.says(HELLO);
    await left;
    expect(program.abortion?.failure).toMatchObject({
      reason: 'certificate_refused',
      message: 'it is another',
    });
    expect(sockets).toEqual([]);
    rig.terms = () => ({ via: GATEWAY, certificate: { authority: 'partner' } });
    [program, checked] = [new ScriptedStream(), []];
    const sent = leave();
    program.says(HELLO);
    await sent;
    expect([checked, far.text]).toEqual([[], HELLO]);
  });
});
