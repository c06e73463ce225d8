import { beforeEach, describe, expect, test } from 'bun:test';
import type { DecisionReason } from '../../../shared/policy/decision.ts';
import { silentLog } from '../../../tests/kit/datastore.ts';
import type { FoundService, Member } from '../../directory/service-index.ts';
import { FAILURES_TO_EJECT } from '../../services/ejection.ts';
import { Members } from '../../services/services.ts';
import { SINGLE_USERS } from '../../subordinate-users/subordinate-users.ts';
import type { ProcessIdentifier } from '../../workload-attestation/process-identity.ts';
import type { Arrival } from '../inbound/arrival.ts';
import { OpenConnections } from '../connections/connections.ts';
import { InMemoryDirectory } from '../fixtures/in-memory-directory.ts';
import { JudgeRig } from '../fixtures/judge-rig.ts';
import { CALLER, makeAuthority, makeSvid, OTHER, TARGET, TestIdentities } from '../fixtures/mesh-rig.ts';
import { outsideRig } from '../fixtures/outside-rig.ts';
import { ScriptedStream, settled } from '../fixtures/scripted-stream.ts';
import type { MeshOutcome, MeshRequest } from '../mesh/mesh.ts';
import { Outbound } from './outbound.ts';
import { MAX_TRIED } from './service-call.ts';

/** Connections to a service in several places: who is asked, in which order, and after what no longer. */

const CLIENT = { address: '10.0.0.1', port: 40_000 };
const SERVICE_ADDRESS = { address: '10.96.0.1', port: 80 };
const memberAt = (last: number, distance: Member['distance'] = 'zone'): Member => ({
  address: `10.0.0.${last}`,
  port: 8080,
  locality: 'eu/a',
  distance,
});
const [NEAR, FAR] = [memberAt(2), memberAt(3, 'elsewhere')];
const REMOTE = { kind: 'remote', spiffeId: TARGET, protocol: 'auto' } as const;

const authority = await makeAuthority();
const svid = await makeSvid(CALLER, authority);

let rig: JudgeRig;
let directory: InMemoryDirectory;
let connections: OpenConnections;
let identities: TestIdentities;
let members: Members;
let outbound: Outbound;
/** What each member answers, by the last part of its address; accepted unless said. */
let answers: Map<string, MeshOutcome>;
let calls: MeshRequest[];
/** What a member on this host does. */
let receive: (arrival: Arrival) => void;
let program: ScriptedStream;
let far: ScriptedStream;

beforeEach(() => {
  [rig, directory, connections] = [
    new JudgeRig(),
    new InMemoryDirectory(),
    new OpenConnections({ max: 100, maxPerHost: 100 }),
  ];
  rig.clock.jump(Date.now() - rig.clock.nowMs());
  identities = new TestIdentities(svid, authority);
  [answers, calls, program, far] = [
    new Map<string, MeshOutcome>(),
    [],
    new ScriptedStream(),
    new ScriptedStream(),
  ];
  receive = (arrival) => void arrival.accept();
  const { clock } = rig;
  const observer = { memberEjected: () => undefined, memberTaken: () => undefined };
  members = new Members({ directory, clock, random: () => 0, log: silentLog, observer });
  const processes: ProcessIdentifier = {
    identifyCaller: (_client, _destination, { admit } = {}) => {
      admit?.(0);
      return Promise.resolve({ kind: 'identified', spiffeId: CALLER, pid: process.pid, uid: 0 });
    },
    identifyListener: () => Promise.reject(new Error('This side asks for no listener')),
    identitiesOf: () => Promise.reject(new Error('Nobody asks')),
    observe: () => undefined,
  };
  outbound = new Outbound({
    judge: rig.judge,
    directory,
    members,
    processes,
    identities: identities.identities,
    dialer: {
      open: (request) => {
        calls.push(request);
        return Promise.resolve(answers.get(request.destination.address) ?? accepted());
      },
    },
    outside: outsideRig({ rig, directory, connections }),
    userParties: SINGLE_USERS,
    connections,
    receiveLocal: (arrival) => Promise.resolve(receive(arrival)),
    clock,
  });
  serve(NEAR, FAR);
});

function accepted(): MeshOutcome {
  return {
    kind: 'accepted',
    stream: far,
    peerNotAfterMs: 0,
    peerSerial: '0b',
    use: 'new',
    leave: () => undefined,
  };
}

function failed(
  reason: 'target_unreachable' | 'target_untrusted' | 'caller_untrusted' | 'overloaded',
): MeshOutcome {
  return { kind: 'failed', reason, message: 'ECONNREFUSED' };
}

function denied(reason: DecisionReason): MeshOutcome {
  return { kind: 'denied', reason, decisionId: 'their-id', message: 'no' };
}

function serve(...all: readonly Member[]): FoundService {
  const found = { name: 'web', spiffeId: TARGET, members: all };
  for (const member of all) directory.put(member, REMOTE);
  directory.put(SERVICE_ADDRESS, { kind: 'service', ...found });
  return found;
}

async function connect(): Promise<void> {
  program = new ScriptedStream();
  const destination = SERVICE_ADDRESS;
  await outbound.handle(program, { client: CLIENT, dialled: destination, destination });
}

const called = (): readonly string[] => calls.map(({ destination }) => destination.address);

describe('A connection to a service', () => {
  test('goes to the nearest member, as the expected identity, and passes bytes both ways', async () => {
    await connect();
    expect(calls).toMatchObject([
      { caller: svid, target: TARGET, destination: { address: '10.0.0.2', port: 8080 } },
    ]);
    program.says('question');
    far.says('answer');
    expect([far.text, program.text]).toEqual(['question', 'answer']);
    expect(rig.records).toEqual([]);
  });

  test.each([
    failed('target_unreachable'),
    failed('target_untrusted'),
    failed('overloaded'),
    denied('application_unreachable'),
    denied('listener_unidentified'),
    denied('listener_not_registered'),
    denied('audit_unavailable'),
    denied('overloaded'),
    denied('quarantined'),
  ])('goes on to the next where the first did not accept it for a reason of its own: %p', async (answer) => {
    answers.set(NEAR.address, answer);
    await connect();
    expect(called()).toEqual(['10.0.0.2', '10.0.0.3']);
    // Only while there is another to go to is the first given less time.
    expect(calls.map(({ patienceMs }) => patienceMs !== undefined)).toEqual([true, false]);
    expect([program.abortion, rig.records]).toEqual([undefined, []]);
  });

  test.each(['policy_deny', 'no_policy', 'policy_error', 'caller_untrusted', 'own_listener'] as const)(
    'asks nobody else once a member has decided against the caller: %s',
    async (reason) => {
      answers.set(NEAR.address, denied(reason));
      await connect();
      expect(called()).toEqual(['10.0.0.2']);
      expect(program.abortion).toMatchObject({ failure: { reason } });
      expect(rig.records).toMatchObject([
        {
          reason,
          decision_id: 'their-id',
          direction: 'outbound',
          destination: '10.96.0.1:80',
          member: '10.0.0.2:8080',
          target_spiffe_id: TARGET,
        },
      ]);
    },
  );

  test('is never tried again once it was accepted, however it ends then', async () => {
    await connect();
    far.closes({ message: 'The connection broke: ECONNRESET' });
    await settled();
    expect(called()).toEqual(['10.0.0.2']);
    expect(program.abortion).toBeDefined();
    expect(connections.size).toBe(0);
  });

  test('asks so many members at most, and tells how many and what the last one said', async () => {
    const all = Array.from({ length: MAX_TRIED + 2 }, (_, i) => memberAt(i + 2));
    serve(...all);
    for (const { address } of all) answers.set(address, failed('target_unreachable'));
    await connect();
    expect(calls).toHaveLength(MAX_TRIED);
    expect(new Set(called()).size).toBe(MAX_TRIED);
    expect(rig.records).toMatchObject([
      {
        reason: 'target_unreachable',
        message: `None of ${MAX_TRIED} members of web took it; the last: ECONNREFUSED`,
      },
    ]);
  });

  test('tries no other member after a time, even if there are some', async () => {
    answers.set(NEAR.address, failed('target_unreachable'));
    serve(NEAR, memberAt(4), memberAt(5));
    answers.set('10.0.0.4', failed('target_unreachable'));
    const open = calls.push.bind(calls);
    calls.push = (...requests) => {
      rig.clock.advance(8000);
      return open(...requests);
    };
    await connect();
    expect(called()).toEqual(['10.0.0.2', '10.0.0.4']);
    expect(program.abortion).toMatchObject({ failure: { reason: 'target_unreachable' } });
  });

  test('passes over a member that failed again and again, and takes it again later', async () => {
    answers.set(NEAR.address, failed('target_unreachable'));
    for (let i = 0; i < FAILURES_TO_EJECT; i += 1) await connect();
    calls = [];
    await connect();
    expect(called()).toEqual(['10.0.0.3']);
    answers.clear();
    calls = [];
    rig.clock.advance(10_000);
    await connect();
    expect(called()).toEqual(['10.0.0.2']);
  });

  test('a certificate of the caller’s own that is not valid has no member passed over, and none called well', async () => {
    answers.set(NEAR.address, failed('target_unreachable'));
    for (let i = 0; i < FAILURES_TO_EJECT - 1; i += 1) await connect();
    answers.set(NEAR.address, failed('caller_untrusted'));
    for (let i = 0; i < 2 * FAILURES_TO_EJECT; i += 1) await connect();
    expect(program.abortion).toMatchObject({ failure: { reason: 'caller_untrusted' } });
    expect(rig.records.at(-1)).toMatchObject({ reason: 'caller_untrusted', member: '10.0.0.2:8080' });
    calls = [];
    answers.set(NEAR.address, failed('target_unreachable'));
    await connect();
    await connect();
    // One more was enough.
    expect(called()).toEqual(['10.0.0.2', '10.0.0.3', '10.0.0.3']);
  });

  test('one that has too much open does not have a member passed over for the others', async () => {
    answers.set(NEAR.address, denied('overloaded'));
    for (let i = 0; i < 2 * FAILURES_TO_EJECT; i += 1) await connect();
    answers.clear();
    calls = [];
    await connect();
    expect(called()).toEqual(['10.0.0.2']);
  });

  test('passes over a member whose host is in quarantine, and is cut when its own member gets there', async () => {
    const held = new Set([NEAR.address]);
    rig.hold = ({ target }) =>
      held.has(target.member?.address ?? '') ? 'The called host is in quarantine' : undefined;
    await connect();
    expect(called()).toEqual(['10.0.0.3']);
    expect(program.abortion).toBeUndefined();
    held.add(FAR.address);
    connections.reconsiderAll();
    expect([program.abortion, far.abortion]).toMatchObject([{}, { failure: { reason: 'quarantined' } }]);
    expect(rig.records).toMatchObject([{ reason: 'quarantined', member: '10.0.0.3:8080' }]);
    await connect();
    expect(program.abortion).toMatchObject({ failure: { reason: 'quarantined' } });
  });

  test('is refused where the caller or the service is in quarantine, and nobody is asked', async () => {
    rig.hold = () => 'The caller is in quarantine';
    await connect();
    expect([called(), rig.records.length]).toEqual([[], 1]);
    expect(program.abortion).toMatchObject({ failure: { reason: 'quarantined' } });
  });

  test('is not carried where a certificate of a quarantined node answers at the address of another', async () => {
    rig.hold = ({ target }) =>
      target.certificateSerial === '0b' ? 'The called host is in quarantine' : undefined;
    await connect();
    expect(called()).toEqual(['10.0.0.2']);
    expect(far.abortion).toBeDefined();
    expect(program.abortion).toMatchObject({ failure: { reason: 'quarantined' } });
    calls = [];
    rig.hold = () => undefined;
    await connect();
    expect(called()).toEqual(['10.0.0.3']);
  });

  test('is asked of the calling side’s policy once, for the address that the program asked for', async () => {
    const asked: unknown[] = [];
    rig.egress = ({ target }, destination) => {
      asked.push([target.address, target.port, target.spiffeId, destination]);
      return 'policy_allow';
    };
    answers.set(NEAR.address, failed('target_unreachable'));
    await connect();
    expect(asked).toEqual([['10.96.0.1', 80, TARGET, 'mesh']]);
    rig.egress = () => 'egress_deny';
    calls = [];
    await connect();
    expect([called(), program.abortion]).toMatchObject([[], { failure: { reason: 'egress_deny' } }]);
    expect(rig.records).toMatchObject([{ reason: 'egress_deny', destination: '10.96.0.1:80' }]);
  });

  test('needs an identity', async () => {
    identities.serve();
    await connect();
    expect(called()).toEqual([]);
    expect(program.abortion).toMatchObject({ failure: { reason: 'caller_unidentified' } });
  });

  test('is refused where there is no member, or none that registration still names', async () => {
    serve();
    await connect();
    expect(rig.records).toMatchObject([
      { reason: 'target_unreachable', message: 'The service web has no member' },
    ]);
    serve(NEAR);
    for (const answer of [
      { kind: 'unregistered' },
      { kind: 'outside' },
      { ...REMOTE, spiffeId: OTHER },
    ] as const) {
      directory.put(NEAR, answer);
      await connect();
      expect(program.abortion).toMatchObject({ failure: { reason: 'target_unknown' } });
    }
    expect(called()).toEqual([]);
  });

  test.each([
    ['the service is gone', () => directory.put(SERVICE_ADDRESS, { kind: 'outside' })],
    ['its member is gone', () => serve(FAR)],
    [
      'it is of another identity',
      () =>
        directory.put(SERVICE_ADDRESS, { kind: 'service', name: 'web', spiffeId: OTHER, members: [NEAR] }),
    ],
  ])('is cut when %s', async (_what, change) => {
    await connect();
    change();
    connections.reconsiderAll();
    expect([program.abortion, far.abortion]).toMatchObject([{}, { failure: { reason: 'target_unknown' } }]);
  });

  test('counts with its member as long as it is open', async () => {
    directory.services = (() => [{ name: 'web', spiffeId: TARGET, members: [NEAR] }]) as never;
    await connect();
    expect(members.status()[0]?.members[0]?.connections).toBe(1);
    far.closes();
    program.closes();
    await settled();
    expect(members.status()[0]?.members[0]?.connections).toBe(0);
  });
});

describe('A connection to a service with a member on this host', () => {
  const HERE = memberAt(1, 'host');
  beforeEach(() => {
    serve(HERE, FAR);
    directory.put(HERE, { kind: 'local', spiffeId: TARGET, protocol: 'auto' });
  });

  test('goes there first, without TLS, to the member’s own address', async () => {
    const arrivals: Arrival[] = [];
    receive = (arrival) => {
      arrivals.push(arrival);
      arrival.accept();
    };
    await connect();
    expect(arrivals).toMatchObject([
      { target: TARGET, destination: { address: '10.0.0.1', port: 8080 }, isLocal: true },
    ]);
    expect(called()).toEqual([]);
  });

  test('goes to another host where nobody listens here', async () => {
    receive = (arrival) =>
      arrival.deny({ reason: 'listener_unidentified', decisionId: 'x', message: 'nobody' });
    await connect();
    expect(called()).toEqual(['10.0.0.3']);
    expect([program.abortion, rig.records]).toEqual([undefined, []]);
  });

  test('is over where the policy denies it here, which stands in the record already', async () => {
    receive = (arrival) => arrival.deny({ reason: 'policy_deny', decisionId: 'x', message: 'no' });
    await connect();
    expect(called()).toEqual([]);
    expect(program.abortion).toMatchObject({ failure: { reason: 'policy_deny', decisionId: 'x' } });
    expect(rig.records).toEqual([]);
  });
});
