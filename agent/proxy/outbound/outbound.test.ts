import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { parseEnforcementScope } from '../../../shared/policy/enforcement.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { silentLog } from '../../../tests/kit/datastore.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { attributesOf, TracesRig } from '../../traces/fixtures/traces-rig.ts';
import { SINGLE_USERS } from '../../subordinate-users/subordinate-users.ts';
import type { ProcessIdentifier, ProcessIdentity } from '../../workload-attestation/process-identity.ts';
import { Members } from '../../services/services.ts';
import type { Ends } from '../../quarantine/quarantine.ts';
import type { Arrival } from '../inbound/arrival.ts';
import { OpenConnections } from '../connections/connections.ts';
import { InMemoryDirectory } from '../fixtures/in-memory-directory.ts';
import { JudgeRig } from '../fixtures/judge-rig.ts';
import { CALLER, makeAuthority, makeSvid, OTHER, TARGET, TestIdentities } from '../fixtures/mesh-rig.ts';
import { outsideRig } from '../fixtures/outside-rig.ts';
import { ScriptedStream, settled } from '../fixtures/scripted-stream.ts';
import type { MeshOutcome, MeshRequest } from '../mesh/mesh.ts';
import { Outbound, type OutboundOptions } from './outbound.ts';

/** The calling side, from a captured connection of a process to the mesh, to this host or out of the mesh. */

const CLIENT = { address: '10.0.0.1', port: 40_000 };
const DESTINATION = { address: '10.0.0.2', port: 80 };
const PEER_SERIAL = '0b';
const LISTENER = { kind: 'remote', spiffeId: TARGET, protocol: 'auto' } as const;

const authority = await makeAuthority();
const svid = await makeSvid(CALLER, authority);

let rig: JudgeRig;
let directory: InMemoryDirectory;
let connections: OpenConnections;
let identities: TestIdentities;
let options: OutboundOptions;
let outbound: Outbound;
let caller: () => Promise<ProcessIdentity>;
/** What the mesh answers. */
let answer: () => Promise<MeshOutcome>;
let calls: MeshRequest[];
let locals: Arrival[];
let program: ScriptedStream;
let far: ScriptedStream;

let left: number;
const leave = (): void => void (left += 1);

beforeEach(() => {
  left = 0;
  [rig, directory, connections] = [
    new JudgeRig(),
    new InMemoryDirectory(),
    new OpenConnections({ max: 8, maxPerHost: 8 }),
  ];
  rig.clock.jump(Date.now() - rig.clock.nowMs());
  identities = new TestIdentities(svid, authority);
  [calls, locals, program, far] = [[], [], new ScriptedStream(), new ScriptedStream()];
  caller = () => Promise.resolve({ kind: 'identified', spiffeId: CALLER, pid: process.pid, uid: 0 });
  answer = () =>
    Promise.resolve({
      kind: 'accepted',
      stream: far,
      peerNotAfterMs: 0,
      peerSerial: PEER_SERIAL,
      use: 'new',
      leave,
    });
  const processes: ProcessIdentifier = {
    identifyCaller: async (_client, _destination, { admit } = {}) => {
      const identity = await caller();
      return admit?.(identity.uid ?? 0) === false
        ? { ...identity, kind: 'unidentified', why: 'limit' }
        : identity;
    },
    identifyListener: () => Promise.reject(new Error('This side asks for no listener')),
    identitiesOf: () => Promise.reject(new Error('Nobody asks')),
    observe: () => undefined,
  };
  options = {
    judge: rig.judge,
    directory,
    members: new Members({
      directory,
      clock: rig.clock,
      random: () => 0,
      log: silentLog,
      observer: { memberEjected: () => undefined, memberTaken: () => undefined },
    }),
    processes,
    identities: identities.identities,
    dialer: {
      open: async (request) => {
        calls.push(request);
        return await answer();
      },
    },
    outside: outsideRig({ rig, directory, connections }),
    userParties: SINGLE_USERS,
    connections,
    receiveLocal: (arrival) => Promise.resolve(void locals.push(arrival)),
    clock: rig.clock,
  };
  outbound = new Outbound(options);
  directory.put(DESTINATION, LISTENER);
});

async function connect(destination = DESTINATION): Promise<void> {
  await outbound.handle(program, { client: CLIENT, dialled: destination, destination });
}

/** The program was reset with this reason; it stands in the record and is told to its user. */
function expectReset(reason: string, recorded: object = {}): void {
  expect(program.abortion).toMatchObject({ failure: { reason } });
  expect(rig.records.at(-1)).toMatchObject({ reason, decision: 'deny', direction: 'outbound', ...recorded });
  const [denial] = rig.denials.list({ uid: process.getuid!(), limit: 1 });
  expect(denial).toMatchObject({ pid: process.pid, record: { reason } });
}

describe('Outbound to another host', () => {
  test('calls as the workload that the process is for whom registration names, and passes bytes both ways', async () => {
    await connect();
    expect(calls).toMatchObject([
      { caller: svid, target: TARGET, destination: DESTINATION, source: CLIENT, connectionId: 'id-1' },
    ]);
    program.says('question');
    far.says('answer');
    expect([far.text, program.text]).toEqual(['question', 'answer']);
    far.closes();
    program.closes();
    await settled();
    // The called side has recorded it; here nothing was decided that is not said there.
    expect([rig.records, connections.size]).toEqual([[], 0]);
  });

  test('is reset before anything leaves the host while an end is in quarantine, and told why', async () => {
    rig.hold = () => 'The caller is in quarantine';
    await connect();
    expectReset('quarantined', { message: 'The caller is in quarantine', caller_spiffe_id: CALLER });
    expect(calls).toEqual([]);
  });

  test('is held by what registration says that it is, where its certificate is not there any more: to the mesh, to this host, out of the mesh', async () => {
    identities.serve();
    rig.hold = ({ caller: { spiffeId } }) =>
      spiffeId === CALLER ? 'The caller is in quarantine' : undefined;
    for (const answer of [LISTENER, { ...LISTENER, kind: 'local' }, { kind: 'outside' }] as const) {
      directory.put(DESTINATION, answer);
      program = new ScriptedStream();
      await connect();
      expectReset('quarantined', { caller_spiffe_id: CALLER });
    }
    expect([calls, locals]).toEqual([[], []]);
  });

  test.each(['holders_differ', 'ambiguous_entry', 'changed', 'limit', 'no_holder'] as const)(
    'is held as everybody that it may be, where nobody can tell whose it is: %s',
    async (why) => {
      const nobody = { kind: 'unidentified', why, pid: process.pid, uid: 0 } as const;
      caller = () => Promise.resolve({ ...nobody, mayBe: [OTHER, CALLER] });
      rig.hold = ({ caller: { spiffeId } }) => (spiffeId === CALLER ? 'held' : undefined);
      for (const answer of [LISTENER, { ...LISTENER, kind: 'local' }, { kind: 'outside' }] as const) {
        directory.put(DESTINATION, answer);
        program = new ScriptedStream();
        await connect();
        expectReset('quarantined', { caller_spiffe_id: null });
      }
      expect([calls, locals]).toEqual([[], []]);
      caller = () => Promise.resolve({ ...nobody, mayBe: [OTHER] });
      directory.put(DESTINATION, { ...LISTENER, kind: 'local' });
      program = new ScriptedStream();
      await connect();
      expect(locals[0]?.findLoss()).toBeUndefined();
      rig.hold = ({ caller: { spiffeId } }) => (spiffeId === OTHER ? 'held' : undefined);
      expect(locals[0]?.findLoss()).toMatchObject({ reason: 'quarantined' });
    },
  );

  test('to this host without a certificate is cut when it comes into quarantine', async () => {
    identities.serve();
    directory.put(DESTINATION, { ...LISTENER, kind: 'local' });
    await connect();
    expect(locals[0]).toMatchObject({ caller: null });
    expect(locals[0]?.findLoss()).toBeUndefined();
    rig.hold = ({ caller: { spiffeId } }) => (spiffeId === CALLER ? 'held' : undefined);
    expect(locals[0]?.findLoss()).toMatchObject({ reason: 'quarantined' });
  });

  test('is reset when the certificate that answers is of a host in quarantine', async () => {
    rig.hold = ({ target }) => (target.certificateSerial === PEER_SERIAL ? 'The called host' : undefined);
    await connect();
    expectReset('quarantined', { target_spiffe_id: TARGET });
    expect(far.abortion).toBeDefined();
    expect(connections.size).toBe(0);
  });

  test.each([
    ['the caller', ({ caller }: Ends) => caller.spiffeId === CALLER],
    ['the target', ({ target }: Ends) => target.spiffeId === TARGET],
    ['the host of the certificate', ({ target }: Ends) => target.certificateSerial === PEER_SERIAL],
  ])('is cut, open, when %s comes into quarantine, and the others go on', async (_name, isHeld) => {
    await connect();
    rig.hold = (ends) => (ends.caller.spiffeId === OTHER ? 'another' : undefined);
    connections.reconsiderAll();
    expect([rig.records, connections.size]).toEqual([[], 1]);
    rig.hold = (ends) => (isHeld(ends) ? 'held' : undefined);
    connections.reconsiderAll();
    expect(rig.records).toMatchObject([{ reason: 'quarantined', decision: 'deny', direction: 'outbound' }]);
    expect([program.abortion !== undefined, far.abortion?.failure?.reason]).toEqual([true, 'quarantined']);
    expect(connections.size).toBe(0);
  });

  const strangers: readonly (readonly [string, ProcessIdentity, string])[] = [
    [
      'of no entry',
      { kind: 'unidentified', why: 'no_entry', pid: process.pid, uid: 0 },
      'no registration entry',
    ],
    [
      'that changed',
      { kind: 'unidentified', why: 'changed', pid: process.pid, uid: 0 },
      'changed while it was looked at',
    ],
    [
      'without certificate',
      { kind: 'identified', spiffeId: OTHER, pid: process.pid, uid: 0 },
      'is not there yet, or has ended',
    ],
  ];
  test.each(strangers)('calls nobody for a process %s, and says why', async (_name, identity, told) => {
    caller = () => Promise.resolve(identity);
    await connect();
    expect(calls).toEqual([]);
    expectReset('caller_unidentified', { target_spiffe_id: TARGET, destination: '10.0.0.2:80' });
    expect(rig.records[0]?.message).toContain(told);
  });

  test('calls nobody with a certificate that has ended', async () => {
    rig.clock.jump(svid.notAfterMs - rig.clock.nowMs());
    await connect();
    expect(calls).toEqual([]);
    expectReset('caller_unidentified');
  });

  test('calls a service in audit mode although the policy narrows, if that can be written down', async () => {
    rig.modes.set(new Map([[parseEnforcementScope(TARGET), 'audit']]));
    rig.egress = () => 'egress_deny';
    await connect();
    expect([calls.length, connections.size]).toEqual([1, 1]);
    expect(rig.records).toMatchObject([
      { direction: 'outbound', decision: 'allow', would_deny: true, reason: 'egress_deny' },
    ]);
    connections.reconsiderAll();
    expect(connections.size).toBe(1);
    rig.modes.set(new Map());
    connections.reconsiderAll();
    expect(connections.size).toBe(0);
    rig.modes.set(new Map([[parseEnforcementScope(TARGET), 'audit']]));
    rig.hasRoom = false;
    program = new ScriptedStream();
    await connect();
    expect(program.abortion).toMatchObject({ failure: { reason: 'audit_unavailable' } });
    expect(calls).toHaveLength(1);
  });

  test('calls nobody when the policy narrows, and when that cannot be written down', async () => {
    rig.egress = (_request, destination) => (destination === 'mesh' ? 'egress_deny' : 'policy_allow');
    await connect();
    expectReset('egress_deny', { decision_id: 'id-1', caller_spiffe_id: CALLER, target_spiffe_id: TARGET });
    rig.hasRoom = false;
    program = new ScriptedStream();
    await connect();
    expect(program.abortion).toMatchObject({ failure: { reason: 'audit_unavailable' } });
    expect(calls).toEqual([]);
  });

  test('tells the process what the other host decided, under that decision’s id', async () => {
    answer = () =>
      Promise.resolve({ kind: 'denied', reason: 'policy_deny', decisionId: 'theirs', message: 'not you' });
    await connect();
    expectReset('policy_deny', { decision_id: 'theirs', message: 'not you' });
  });

  test('does not believe a host that denies with the reason of an allow', async () => {
    answer = () =>
      Promise.resolve({ kind: 'denied', reason: 'policy_allow', decisionId: 'theirs', message: 'odd' });
    await connect();
    expectReset('protocol_error', { decision_id: 'id-1' });
  });

  test('says that the other host was not reached, or broke off', async () => {
    answer = () => Promise.resolve({ kind: 'failed', reason: 'target_unreachable', message: 'away' });
    await connect();
    expectReset('target_unreachable', { message: 'away' });
    program = new ScriptedStream();
    answer = () => Promise.reject(new Error('unforeseen'));
    await connect();
    expectReset('target_unreachable');
  });

  test('tells the process when the other host takes its permit back', async () => {
    await connect();
    far.closes({ reason: 'policy_deny', decisionId: 'later', message: 'no more' });
    await settled();
    expectReset('policy_deny', { decision_id: 'later' });
  });

  test('goes nowhere without a place', async () => {
    for (let i = 0; i < 8; i++) connections.tryEnter({ name: `party ${i}` });
    await connect();
    expect(program.abortion).toMatchObject({ failure: { reason: 'overloaded' } });
    expect(calls).toEqual([]);
  });

  test('makes no span without a place', async () => {
    await using tracesRig = new TracesRig();
    const { traces } = tracesRig;
    rig.newId = () => crypto.randomUUID();
    outbound = new Outbound({ ...options, traces });
    const leaves = Array.from({ length: 8 }, (_, i) => connections.tryEnter({ name: `party ${i}` }));
    await connect();
    for (const leave of leaves) leave?.();
    program = new ScriptedStream();
    directory.put(DESTINATION, { kind: 'unregistered' });
    await connect();
    await traces.stop();
    expect(rig.records.map(({ reason }) => reason)).toEqual(['overloaded', 'target_unknown']);
    expect(tracesRig.spans.map((span) => attributesOf(span)['picket.reason'])).toEqual(['target_unknown']);
  });
});

describe('Outbound of an agent that goes', () => {
  test('tells the called side, which knows the protocol of what is open', async () => {
    await connect();
    expect(left).toBe(0);
    connections.retireAll();
    expect([left, program.abortion]).toEqual([1, undefined]);
  });
});

describe('Outbound judges again', () => {
  const changes: readonly (readonly [string, () => void, string])[] = [
    ['the identity is withdrawn', () => identities.serve(), 'caller_unidentified'],
    [
      'the listener is another’s',
      () => directory.put(DESTINATION, { ...LISTENER, spiffeId: OTHER }),
      'target_unknown',
    ],
    ['the listener is gone', () => directory.put(DESTINATION, { kind: 'unregistered' }), 'target_unknown'],
    ['the policy narrows', () => (rig.egress = () => 'egress_deny'), 'egress_deny'],
  ];

  test.each(changes)('what is open when %s, and cuts both sides', async (_name, change, reason) => {
    await connect();
    connections.reconsiderAll();
    expect(program.abortion).toBeUndefined();
    change();
    connections.reconsiderAll();
    expect(far.abortion).toMatchObject({ failure: { reason } });
    expect(program.abortion).toBeDefined();
    expect(rig.denials.list({ limit: 9 })).toMatchObject([{ record: { reason } }]);
    expect(connections.size).toBe(0);
  });

  test.each(changes)('what was being set up when %s', async (_name, change, reason) => {
    answer = () => {
      change();
      connections.reconsiderAll();
      return Promise.resolve({
        kind: 'accepted',
        stream: far,
        peerNotAfterMs: 0,
        peerSerial: PEER_SERIAL,
        use: 'new',
        leave,
      });
    };
    await connect();
    expect(far.abortion).toMatchObject({ failure: { reason } });
    expect(program.abortion).toBeDefined();
    expect(rig.denials.list({ limit: 9 })).toMatchObject([{ record: { reason } }]);
    expect(connections.size).toBe(0);
  });
});

describe('Outbound to a listener of this host', () => {
  const receive = async (): Promise<Arrival> => {
    directory.put(DESTINATION, { ...LISTENER, kind: 'local' });
    await connect();
    return locals[0]!;
  };

  test('hands the connection over with both identities', async () => {
    const arrival = await receive();
    expect(arrival).toMatchObject({
      connectionId: 'id-1',
      caller: { spiffeId: CALLER, notAfterMs: svid.notAfterMs },
      target: TARGET,
      source: CLIENT,
      destination: DESTINATION,
      isLocal: true,
      process: { pid: process.pid, uid: process.getuid!() },
    });
    expect(arrival.accept()).toBe(program);
    expect(calls).toEqual([]);
  });

  test('knows when the caller’s identity is withdrawn', async () => {
    const arrival = await receive();
    expect(arrival.findLoss()).toBeUndefined();
    identities.serve();
    expect(arrival.findLoss()).toMatchObject({ reason: 'caller_unidentified' });
  });

  test('hands over a caller without identity as one, and resets it when it is denied there', async () => {
    caller = () => Promise.resolve({ kind: 'unidentified', why: 'no_entry', pid: null, uid: null });
    const arrival = await receive();
    expect(arrival.caller).toBeNull();
    const denial = { reason: 'policy_deny', decisionId: 'd', message: 'no' } as const;
    arrival.deny(denial);
    expect(program.abortion).toEqual({ failure: denial });
  });
});

describe('Outbound to a port of a meshed host at which nothing is registered', () => {
  test('goes nowhere, whatever the policy says', async () => {
    directory.put(DESTINATION, { kind: 'unregistered' });
    await connect();
    expectReset('target_unknown');
    expect(calls).toEqual([]);
  });
});

describe('Outbound to a host outside of the mesh', () => {
  let server: Server;
  let heard: string;
  beforeEach(async () => {
    heard = '';
    server = createServer((socket) => {
      socket.on('data', (bytes) => (heard += bytes.toString()));
      socket.on('error', () => undefined);
      socket.write('hello');
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  });
  afterEach(() => void server.close());
  const outside = () => ({ address: '127.0.0.1', port: (server.address() as AddressInfo).port });

  test('goes where the policy has it so, and writes that down before', async () => {
    const asked: (SpiffeId | null)[] = [];
    rig.egress = ({ caller: { spiffeId } }, destination) => {
      asked.push(spiffeId);
      return destination === 'outside' ? 'policy_allow' : 'egress_deny';
    };
    await connect(outside());
    program.says('question');
    await waitUntil('both were heard', () => heard === 'question' && program.text === 'hello');
    expect(asked).toEqual([CALLER]);
    expect(rig.records).toMatchObject([{ decision: 'allow', decision_id: 'id-1', target_spiffe_id: null }]);
    connections.cutAll({ message: 'over' });
  });

  test('does not go where the policy does not have it so, or when it cannot be written down', async () => {
    rig.egress = () => 'egress_deny';
    rig.asksForDomain = false;
    await connect(outside());
    expectReset('egress_deny');
    rig.egress = () => 'policy_allow';
    rig.hasRoom = false;
    program = new ScriptedStream();
    await connect(outside());
    expect(program.abortion).toMatchObject({ failure: { reason: 'audit_unavailable' } });
    expect(heard).toBe('');
  });

  test('says that it was not reached', async () => {
    const gone = outside();
    server.close();
    await connect(gone);
    expectReset('target_unreachable');
  });
});
