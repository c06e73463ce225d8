import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { DecisionRequest } from '../../shared/policy/decision.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { Departure } from './departure.ts';
import { OpenConnections } from './connections.ts';
import { clientHello } from './fixtures/client-hello.ts';
import { InMemoryDirectory } from './fixtures/in-memory-directory.ts';
import { JudgeRig } from './fixtures/judge-rig.ts';
import { CALLER, TARGET } from './fixtures/mesh-rig.ts';
import { ScriptedStream, settled } from './fixtures/scripted-stream.ts';
import type { Refusal } from './judge.ts';
import { Outside } from './outside.ts';

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
  outside = new Outside({
    judge: rig.judge,
    directory,
    connections,
    domains: {
      leadsTo: (domain, address) => {
        asked.push(`${domain} ${address}`);
        whileAsked();
        return Promise.resolve(leading.has(domain));
      },
    },
    findLoss: () => loss,
    mark: 0,
    clock: rig.clock,
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
  return outside.leave(departure);
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
