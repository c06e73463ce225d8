import { expect, test } from 'bun:test';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { mergeServices } from './merge-services.ts';
import type { MemberStatus, ServiceStatus } from './services.ts';

const member = (address: string, change: Partial<MemberStatus> = {}): MemberStatus => ({
  address,
  port: 80,
  distance: 'zone',
  connections: 0,
  ejectedMs: 0,
  ...change,
});
const service = (name: string, ...members: readonly MemberStatus[]): ServiceStatus => ({
  name,
  spiffeId: parseSpiffeId('spiffe://example.org/web'),
  members,
});

test('mergeServices() adds connections up, and passes over for as long as any does', () => {
  const seen = [
    [service('web', member('10.0.0.2', { connections: 2, ejectedMs: 5 }), member('10.0.0.3'))],
    [
      service('web', member('10.0.0.2', { connections: 3, ejectedMs: 9, lastFailure: 'no' })),
      service('other'),
    ],
  ];
  expect(mergeServices(seen)).toEqual([
    service(
      'web',
      member('10.0.0.2', { connections: 5, ejectedMs: 9, lastFailure: 'no' }),
      member('10.0.0.3'),
    ),
  ]);
  expect(mergeServices([])).toEqual([]);
});
