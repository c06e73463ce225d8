import { beforeEach, describe, expect, test } from 'bun:test';
import { PicketError } from '../../../shared/errors/errors.ts';
import { CrowdReport } from '../../../shared/runtime/crowd-report.ts';
import { createLog } from '../../../shared/runtime/log.ts';
import { WatchedValue } from '../../../shared/runtime/watched-value.ts';
import type {
  AskedDatagram,
  DatagramGate,
  FlowKey,
  GateListener,
  SenderSearch,
} from '../../capture/datagram-gate.ts';
import type { UdpSocket } from '../../native/sock-diag-message.ts';
import { SINGLE_USERS } from '../../subordinate-users/subordinate-users.ts';
import { FairShare } from '../connections/fair-share.ts';
import { InMemoryDirectory } from '../fixtures/in-memory-directory.ts';
import { JudgeRig } from '../fixtures/judge-rig.ts';
import { DecidedFlows } from './decided-flows.ts';
import { FairPace } from './fair-pace.ts';
import { nameOfFlow } from './flow.ts';

const SERVER = { address: '192.0.2.9', port: 9000 };
const MAX_FLOWS = 16;
const HEARD_PER_SECOND = 1000;

/** A gate whose sockets and flows are the test's; it forgets flows as the kernel does. */
class FakeGate implements DatagramGate {
  readonly leaseMs = 4000;
  readonly passing = new Set<string>();
  readonly sent: string[] = [];
  /** Sockets by local port. */
  readonly sockets = new Map<number, readonly UdpSocket[]>();
  /** By local port. */
  readonly obstacles = new Map<number, string>();
  /** Local ports whose sockets cannot be looked at. */
  readonly unseen = new Set<number>();
  looks = 0;
  /** Sockets of others that stand in the way of each look. */
  crowd = 0;
  isUnreachable = false;
  listener: GateListener | undefined;

  open(listener: GateListener): Promise<() => void> {
    this.listener = listener;
    return Promise.resolve(() => this.passing.clear());
  }

  findSenders({ source }: FlowKey, { hasTimeFor }: SenderSearch): readonly UdpSocket[] {
    this.looks += 1;
    if (this.crowd > 0 && !hasTimeFor(this.crowd)) return [];
    if (this.unseen.has(source.port))
      throw new PicketError('unavailable', 'sock_diag', 'the kernel says nothing');
    return this.sockets.get(source.port) ?? [];
  }

  findObstacle({ source }: FlowKey): string | undefined {
    return this.obstacles.get(source.port);
  }

  admit(flows: readonly FlowKey[]): void {
    for (const flow of flows) this.passing.add(nameOfFlow(flow));
  }

  prolong(flows: readonly FlowKey[]): void {
    this.admit(flows);
  }

  end(flows: readonly FlowKey[]): void {
    for (const flow of flows) this.passing.delete(nameOfFlow(flow));
  }

  send({ payload }: AskedDatagram): void {
    if (this.isUnreachable) throw new Error('the network is unreachable');
    this.sent.push(payload.toString());
  }
}

function socketAt(port: number, cookie: bigint, uid = 1000): UdpSocket {
  return {
    local: { address: '0.0.0.0', port },
    remote: { address: '0.0.0.0', port: 0 },
    uid,
    inode: Number(cookie),
    cookie,
    interfaceIndex: 0,
    isIpv6Only: false,
    isIpv6: false,
  };
}

describe('DecidedFlows', () => {
  let rig: JudgeRig;
  let gate: FakeGate;
  let flows: DecidedFlows;
  let directory: InMemoryDirectory;
  let lines: string[];
  /** The cookies of the sockets of each question. */
  let identified: bigint[][];

  beforeEach(async () => {
    rig = new JudgeRig();
    lines = [];
    identified = [];
    const log = createLog({ level: 'warn', nowMs: () => 0, write: (line) => void lines.push(line) });
    gate = new FakeGate();
    directory = new InMemoryDirectory();
    flows = new DecidedFlows({
      gate,
      judge: rig.judge,
      directory,
      processes: {
        identifySender: async (sockets) => {
          identified.push(sockets.map(({ cookie }) => cookie));
          const uid = sockets[0]?.uid ?? null;
          return await Promise.resolve({ kind: 'unidentified', why: 'no_entry', pid: 7, uid, mayBe: [] });
        },
      },
      identities: new WatchedValue(new Map()),
      userParties: SINGLE_USERS,
      share: new FairShare(MAX_FLOWS),
      room: { maxFlows: 256, maxBytes: 1024 * 1024, maxDenials: 512 },
      clock: rig.clock,
      pace: new FairPace(rig.clock, HEARD_PER_SECOND),
      failures: new CrowdReport({ event: 'datagrams_failed', clock: rig.clock, log }),
      log,
    });
    await settle();
  });

  /** What an open socket at a port sends. */
  function ask(port: number, text = 'question', uid = 1000): void {
    const source = { address: '10.0.0.1', port };
    const asked = { uid, source, destination: SERVER, payload: Buffer.from(text), interfaceIndex: 2 };
    gate.listener?.onDatagram(asked);
  }

  async function settle(): Promise<void> {
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  }

  const reasons = (): readonly string[] => rig.records.map(({ reason }) => reason);

  test('sends on what waited for the decision in its order, lets the flow pass, and records it once', async () => {
    gate.sockets.set(5000, [socketAt(5000, 1n)]);
    ask(5000, 'one');
    ask(5000, 'two');
    expect(gate.sent).toEqual([]);
    await settle();
    ask(5000, 'three');
    expect(gate.sent).toEqual(['one', 'two', 'three']);
    expect(gate.passing.size).toBe(1);
    expect(rig.records.map(({ protocol, decision }) => [protocol, decision])).toEqual([['udp', 'allow']]);
  });

  test('asks of all sockets that may have sent together, and ends a flow where another one comes or one goes', async () => {
    for (const port of [5000, 5001]) {
      gate.sockets.set(port, [socketAt(port, 1n), socketAt(port, 2n)]);
      ask(port);
    }
    await settle();
    expect([identified, gate.passing.size]).toEqual([
      [
        [1n, 2n],
        [1n, 2n],
      ],
      2,
    ]);
    gate.sockets.set(5000, [socketAt(5000, 1n), socketAt(5000, 2n), socketAt(5000, 3n)]);
    gate.sockets.set(5001, [socketAt(5001, 2n)]);
    rig.clock.advance(1125);
    expect([gate.passing.size, flows.status.flows]).toEqual([0, 0]);
  });

  test('drops what no socket, or one of another user as well, may have sent, whatever the policy says', async () => {
    ask(5000);
    gate.sockets.set(5001, [socketAt(5001, 1n), socketAt(5001, 2n, 1001)]);
    ask(5001);
    await settle();
    expect([gate.sent, gate.passing.size]).toEqual([[], 0]);
    // To the same destination, by the same user: one record.
    expect(reasons()).toEqual(['caller_unidentified']);
    expect(flows.status.denied).toBe(2);
  });

  test('drops what another user than the owner of the socket sent, and what cannot go whatever is decided, and ends what cannot any more', async () => {
    gate.sockets.set(5000, [socketAt(5000, 1n)]);
    ask(5000, 'forged', 1001);
    gate.sockets.set(5001, [socketAt(5001, 2n)]);
    gate.obstacles.set(5001, 'not its address');
    ask(5001);
    await settle();
    expect([gate.sent, gate.passing.size]).toEqual([[], 0]);
    expect(rig.records.map(({ reason, message }) => [reason, message === 'not its address'])).toEqual([
      ['caller_unidentified', false],
      ['caller_unidentified', true],
    ]);
    ask(5000, 'own');
    await settle();
    expect([gate.sent, gate.passing.size]).toEqual([['own'], 1]);
    gate.obstacles.set(5000, 'not its address any more');
    rig.clock.advance(1125);
    expect(gate.passing.size).toBe(0);
  });

  test('looks at nothing while there is no flow', async () => {
    expect(rig.clock.pending).toBe(0);
    gate.sockets.set(5000, [socketAt(5000, 1n)]);
    ask(5000);
    await settle();
    expect(rig.clock.pending).toBe(1);
    gate.sockets.delete(5000);
    rig.clock.advance(2000);
    expect(rig.clock.pending).toBe(0);
  });

  test('refuses hosts of the mesh, terms, and who is in quarantine', async () => {
    gate.sockets.set(5000, [socketAt(5000, 1n)]);
    const asked = async (port: number): Promise<string | undefined> => {
      gate.sockets.set(port, [socketAt(port, BigInt(port))]);
      ask(port);
      await settle();
      return reasons().at(-1);
    };
    rig.terms = () => ({ isInspected: true });
    expect(await asked(5000)).toBe('inspection_refused');
    rig.terms = () => undefined;
    rig.hold = () => 'held';
    expect(await asked(5001)).toBe('quarantined');
    rig.hold = () => undefined;
    directory.put(SERVER, { kind: 'unregistered' });
    expect(await asked(5002)).toBe('target_unknown');
    expect([gate.sent, gate.passing.size]).toEqual([[], 0]);
  });

  test('ends a flow at once where its verdict changes, and within about a second where its socket is gone or another’s', async () => {
    for (const port of [5000, 5001, 5002]) {
      gate.sockets.set(port, [socketAt(port, BigInt(port))]);
      ask(port);
    }
    await settle();
    expect(gate.passing.size).toBe(3);
    gate.sockets.delete(5000);
    gate.sockets.set(5001, [socketAt(5001, 99n)]);
    rig.clock.advance(1125);
    expect(gate.passing.size).toBe(1);
    rig.egress = () => 'egress_deny';
    flows.reconsiderAll();
    expect([gate.passing.size, flows.status.flows]).toEqual([0, 0]);
    expect(reasons().at(-1)).toBe('egress_deny');
    ask(5002);
    await settle();
    expect(gate.sent).toHaveLength(3);
  });

  test('leaves others room, tells who has too many, and bounds what waits', async () => {
    const open = async (uid: number, from: number, count: number): Promise<void> => {
      for (let port = from; port < from + count; port++) {
        gate.sockets.set(port, [socketAt(port, BigInt(port), uid)]);
        ask(port, 'q', uid);
      }
      await settle();
    };
    await open(1000, 5000, MAX_FLOWS);
    expect(flows.status.flows).toBe((MAX_FLOWS * 3) / 4);
    expect(reasons()).toContain('overloaded');
    await open(1001, 6000, 1);
    expect(flows.status.flows).toBe((MAX_FLOWS * 3) / 4 + 1);
    for (let datagram = 0; datagram < 20; datagram++) ask(7000);
    expect(flows.status.lost).toBe(4);
  });

  test('ends a flow alone that cannot be looked at, in its turn, when asked about, and when all are judged again', async () => {
    for (const port of [5000, 6000, 7000]) {
      gate.sockets.set(port, [socketAt(port, BigInt(port))]);
      ask(port);
    }
    await settle();
    gate.unseen.add(5000);
    rig.clock.advance(2125);
    expect([gate.passing.size, flows.status.flows]).toEqual([2, 2]);
    gate.unseen.add(6000);
    ask(6000);
    expect([gate.passing.size, flows.status.flows]).toEqual([1, 1]);
    rig.egress = () => {
      throw new PicketError('unavailable', 'policy', 'the policy says nothing');
    };
    flows.reconsiderAll();
    expect([gate.passing.size, flows.status.flows]).toEqual([0, 0]);
    expect(lines).toHaveLength(1);
    rig.clock.advance(10_000);
    expect(lines.map((line): unknown => JSON.parse(line))).toMatchObject([
      { event: 'datagrams_failed', not_looked_at: 1, latest: 'the kernel says nothing' },
      { event: 'datagrams_failed', not_looked_at: 2, latest: 'the policy says nothing' },
    ]);
  });

  test('remembers what it could not decide on as denied, and tells of a crowd of failures in few lines', async () => {
    gate.unseen.add(5000);
    for (let datagram = 0; datagram < 100; datagram++) {
      ask(5000);
      await settle();
    }
    expect([gate.looks, flows.status.denied]).toEqual([1, 100]);
    gate.isUnreachable = true;
    for (let port = 6000; port < 6100; port++) {
      gate.sockets.set(port, [socketAt(port, BigInt(port), port)]);
      ask(port, 'q', port);
      await settle();
    }
    expect(lines).toHaveLength(1);
    rig.clock.advance(10_000);
    expect(lines).toHaveLength(2);
  });

  test('hears so much in a second, and of one user no more than leaves others time', async () => {
    for (let datagram = 0; datagram < HEARD_PER_SECOND; datagram++) ask(5000);
    await settle();
    expect(flows.status).toMatchObject({ denied: 16, lost: HEARD_PER_SECOND - 16 });
    ask(5000);
    expect(flows.status).toMatchObject({ denied: 16, lost: HEARD_PER_SECOND - 15 });
    gate.sockets.set(6000, [socketAt(6000, 1n, 1001)]);
    ask(6000, 'of another', 1001);
    await settle();
    expect(gate.sent).toEqual(['of another']);
    rig.clock.advance(1000);
    ask(5000);
    expect(flows.status.denied).toBe(17);
  });

  test.each([1, 3, 8, 12])('looks at each of %d flows once a second', async (count) => {
    for (let port = 5000; port < 5000 + count; port++) {
      gate.sockets.set(port, [socketAt(port, BigInt(port))]);
      ask(port);
    }
    await settle();
    expect(flows.status.flows).toBe(count);
    gate.looks = 0;
    rig.clock.advance(10_000);
    expect(gate.looks).toBe(10 * count);
  });

  test('goes through many sockets of others only as often as leaves time for other users', async () => {
    gate.crowd = 51_200;
    const open = async (uid: number, port: number): Promise<void> => {
      gate.sockets.set(port, [socketAt(port, BigInt(port), uid)]);
      ask(port, 'question', uid);
      await settle();
    };
    // Two looks for each, in the time of a hundred datagrams.
    for (let port = 5000; port < 5010; port++) await open(1000, port);
    expect(flows.status.flows).toBe(3);
    gate.crowd = 512;
    await open(1001, 6000);
    expect(gate.sent).toHaveLength(4);
    // And where each flow is looked at again.
    gate.crowd = 0;
    rig.clock.advance(2000);
    gate.crowd = 51_200;
    rig.clock.advance(10_000);
    expect(flows.status.flows).toBe(4);
    gate.crowd = 300_000;
    rig.clock.advance(10_000);
    expect(flows.status.flows).toBe(1);
  });

  test('without room for the record nothing passes, and stop() lets nothing go on', async () => {
    gate.sockets.set(5000, [socketAt(5000, 1n)]);
    rig.hasRoom = false;
    ask(5000);
    await settle();
    expect([gate.sent, gate.passing.size]).toEqual([[], 0]);
    rig.hasRoom = true;
    flows.reconsiderAll();
    ask(5000);
    await settle();
    expect(gate.passing.size).toBe(1);
    flows.stop();
    expect(gate.passing.size).toBe(0);
    ask(5000);
    await settle();
    expect([gate.sent.length, gate.passing.size]).toEqual([1, 0]);
  });
});
