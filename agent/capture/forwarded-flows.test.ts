import { expect, test } from 'bun:test';
import type { FlowKey } from './datagram-gate.ts';
import { ForwardedFlows } from './forwarded-flows.ts';

const LEASE_MS = 4000;
const MEMBERS = [{ set: 'udp_forwards_ip', key: Buffer.from('one') }];

function flow(uid: number, port = 1): FlowKey {
  return { uid, source: { address: '10.0.0.1', port }, destination: { address: '10.0.0.2', port: 53 } };
}

test('ForwardedFlows.end() ends what is nobody’s any more, and nothing before', () => {
  const flows = new ForwardedFlows(LEASE_MS);
  flows.put(flow(1), { members: MEMBERS, nowMs: 10_000 });
  flows.put(flow(2), { members: MEMBERS, nowMs: 10_000 });
  expect(flows.membersOf(flow(3))).toBe(MEMBERS);
  expect(flows.end(flow(3), 11_000)).toEqual([]);
  expect(flows.end(flow(1), 11_000)).toEqual([]);
  expect(flows.end(flow(2), 11_000)).toBe(MEMBERS);
  expect(flows.end(flow(2), 11_000)).toEqual([]);
  expect(flows.membersOf(flow(2))).toEqual([]);
});

test('ForwardedFlows takes no flow for one of a user for whom it has ended by itself', () => {
  const flows = new ForwardedFlows(LEASE_MS);
  // A sweep, and none for a while.
  flows.put(flow(9, 9), { members: [], nowMs: 10_000 });
  flows.put(flow(1), { members: MEMBERS, nowMs: 10_100 });
  flows.put(flow(9, 9), { members: [], nowMs: 14_000 });
  flows.put(flow(2), { members: MEMBERS, nowMs: 14_200 });
  expect(flows.end(flow(2), 14_300)).toBe(MEMBERS);
});

test('ForwardedFlows takes no user for one of a flow that another alone goes on with', () => {
  const flows = new ForwardedFlows(LEASE_MS);
  flows.put(flow(1), { members: MEMBERS, nowMs: 10_000 });
  for (let nowMs = 10_000; nowMs < 20_000; nowMs += 1000) flows.put(flow(2), { members: MEMBERS, nowMs });
  expect(flows.end(flow(2), 19_100)).toBe(MEMBERS);
});

test('ForwardedFlows.endAll() ends everything, and put() forgets what has ended by itself', () => {
  const flows = new ForwardedFlows(LEASE_MS);
  flows.put(flow(1), { members: MEMBERS, nowMs: 10_000 });
  flows.put(flow(1, 2), { members: [...MEMBERS], nowMs: 10_000 });
  flows.put(flow(1, 3), { members: [...MEMBERS], nowMs: 15_000 });
  expect(flows.endAll()).toEqual(MEMBERS);
  expect(flows.endAll()).toEqual([]);
});
