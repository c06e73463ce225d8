import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { agentId, identityKindOf, operatorId, serverId, type IdentityKind } from './reserved-path.ts';
import { parseSpiffeId } from './spiffe-id.ts';
import { parseTrustDomain } from './trust-domain.ts';

const DOMAIN = parseTrustDomain('a.test');

describe('identityKindOf()', () => {
  test('tells every kind by its path', () => {
    const kinds: readonly [string, IdentityKind][] = [
      ['', 'authority'],
      ['/x', 'workload'],
      ['/ns/picket/server', 'workload'],
      ['/picketing', 'workload'],
      ['/picket-server', 'workload'],
      ['/Picket/server', 'workload'],
      ['/picket', 'authority'],
      ['/picket/server', 'server'],
      ['/picket/server/x', 'authority'],
      ['/picket/servers', 'authority'],
      ['/picket/agent', 'authority'],
      ['/picket/agent/tpm/ff', 'agent'],
      ['/picket/agents/x', 'authority'],
      ['/picket/operator', 'authority'],
      ['/picket/operator/alice', 'operator'],
      ['/picket/anything', 'authority'],
    ];
    for (const [path, kind] of kinds)
      expect(identityKindOf(parseSpiffeId(`spiffe://a.test${path}`))).toBe(kind);
  });

  test('recognises what serverId(), agentId() and operatorId() make', () => {
    expect<string>(serverId(DOMAIN)).toBe('spiffe://a.test/picket/server');
    expect(identityKindOf(serverId(DOMAIN))).toBe('server');
    const agent = agentId(DOMAIN, { attestationType: 'join_token', name: 'host-b' });
    expect<string>(agent).toBe('spiffe://a.test/picket/agent/join_token/host-b');
    expect(identityKindOf(agent)).toBe('agent');
    expect<string>(operatorId(DOMAIN, 'alice')).toBe('spiffe://a.test/picket/operator/alice');
    expect(identityKindOf(operatorId(DOMAIN, 'alice'))).toBe('operator');
  });

  test('agentId() and operatorId() refuse a name that would leave its path', () => {
    for (const name of ['', '.', '..', 'a b', 'a/', 'a?b'])
      for (const build of [
        () => operatorId(DOMAIN, name),
        () => agentId(DOMAIN, { attestationType: 'tpm', name }),
      ])
        expect(reasonOf(build)).toBe('spiffe_id_invalid');
  });
});
