import { beforeEach, describe, expect, test } from 'bun:test';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import type { Distance, FoundService, Member } from '../directory/service-index.ts';
import { FAILURES_TO_EJECT, FIRST_EJECTION_MS } from './ejection.ts';
import { Members } from './services.ts';

const WEB = parseSpiffeId('spiffe://example.org/web');

function member(address: string, distance: Distance): Member {
  return { address, port: 80, distance };
}

const [ZONE_A, ZONE_B, REGION, FAR] = [
  member('10.0.0.2', 'zone'),
  member('10.0.0.3', 'zone'),
  member('10.0.0.4', 'region'),
  member('10.0.0.5', 'elsewhere'),
];
const SERVICE: FoundService = { name: 'web', spiffeId: WEB, members: [ZONE_A, ZONE_B, REGION, FAR] };

let clock: FakeClock;
let known: WatchedValue<readonly FoundService[]>;
let draws: number[];
let told: string[];
let members: Members;

beforeEach(() => {
  [clock, known, draws, told] = [
    new FakeClock(),
    new WatchedValue<readonly FoundService[]>([SERVICE]),
    [],
    [],
  ];
  members = new Members({
    directory: { services: () => known.current, watch: (listener) => known.watch(() => listener()) },
    clock,
    random: () => draws.shift() ?? 0,
    log: silentLog,
    observer: {
      memberEjected: (why) => void told.push(`ejected ${why}`),
      memberTaken: (distance) => void told.push(`taken ${distance}`),
    },
  });
});

function pickAll(): readonly (string | undefined)[] {
  const tried = new Set<Member>();
  const order: (string | undefined)[] = [];
  for (let next = members.pick(SERVICE, tried); next !== undefined; next = members.pick(SERVICE, tried)) {
    tried.add(next);
    order.push(next.address);
  }
  return order;
}

function eject(one: Member): void {
  for (let i = 0; i < FAILURES_TO_EJECT; i += 1)
    members.failed(SERVICE, one, { failure: 'unreachable', message: 'ECONNREFUSED' });
}

describe('Members.pick()', () => {
  test('goes from the nearest to the farthest, each once', () => {
    expect(pickAll()).toEqual(['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5']);
    expect(members.pick({ ...SERVICE, members: [] }, new Set())).toBeUndefined();
  });

  test('draws two of those at one distance and takes the one with fewer connections, never a farther one', () => {
    const leave = members.taken(SERVICE, ZONE_A);
    expect(members.pick(SERVICE, new Set())).toBe(ZONE_B);
    draws = [0.99, 0];
    expect(members.pick(SERVICE, new Set())).toBe(ZONE_B);
    leave();
    expect(members.pick(SERVICE, new Set())).toBe(ZONE_A);
    draws = [0.99, 0];
    expect(members.pick(SERVICE, new Set())).toBe(ZONE_B);
    for (let i = 0; i < 100; i += 1) members.taken(SERVICE, i % 2 === 0 ? ZONE_A : ZONE_B);
    expect(members.pick(SERVICE, new Set())?.distance).toBe('zone');
  });

  test('passes over who failed in a row, for a while, and tells it once', () => {
    eject(ZONE_A);
    expect(told).toEqual(['ejected unreachable']);
    expect(pickAll()).toEqual(['10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.2']);
    clock.advance(FIRST_EJECTION_MS);
    expect(pickAll()[0]).toBe('10.0.0.2');
  });

  test('where all are passed over tries them all, whose time ends first before the others', () => {
    for (const one of [FAR, REGION, ZONE_B, ZONE_A]) {
      eject(one);
      clock.advance(100);
    }
    expect(pickAll()).toEqual(['10.0.0.5', '10.0.0.4', '10.0.0.3', '10.0.0.2']);
  });

  test('passes over at once where somebody else answered', () => {
    members.failed(SERVICE, ZONE_A, { failure: 'untrusted', message: 'it is somebody else' });
    expect(pickAll().at(-1)).toBe('10.0.0.2');
    expect(told).toEqual(['ejected untrusted']);
  });

  test('an answer, whatever it says, makes up for failures before', () => {
    for (let i = 0; i < 2 * FAILURES_TO_EJECT; i += 1) {
      members.failed(SERVICE, ZONE_A, { failure: 'refused', message: 'no' });
      members.answered(SERVICE, ZONE_A);
    }
    expect(told).toEqual([]);
    members.answered(SERVICE, FAR);
  });
});

test('Members.status() tells of all members, and those that are gone are forgotten', () => {
  members.taken(SERVICE, ZONE_B);
  eject(ZONE_A);
  const [status] = members.status();
  expect(status).toMatchObject({ name: 'web', spiffeId: WEB });
  expect(status?.members[0]).toEqual({
    ...ZONE_A,
    connections: 0,
    ejectedMs: FIRST_EJECTION_MS,
    lastFailure: 'ECONNREFUSED',
  });
  expect(status?.members[1]).toEqual({ ...ZONE_B, connections: 1, ejectedMs: 0 });
  known.set([{ ...SERVICE, members: [ZONE_B] }]);
  known.set([SERVICE]);
  expect(members.status()[0]?.members.map(({ ejectedMs, connections }) => [ejectedMs, connections])).toEqual([
    [0, 0],
    [0, 1],
    [0, 0],
    [0, 0],
  ]);
  members.stop();
});
