import { describe, expect, test } from 'bun:test';
import schema from '../../policies/schema/input.json' with { type: 'json' };
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { parseSpiffeId } from '../spiffe/spiffe-id.ts';
import type { DecisionRequest } from './decision.ts';
import { buildPolicyInput } from './policy-input.ts';

const NOW_MS = Date.UTC(2026, 10, 23, 9, 30, 0, 123);
const CALLER = parseSpiffeId('spiffe://example.org/ns/billing/sa/web');

const request: DecisionRequest = {
  decisionId: 'd-1',
  caller: { spiffeId: CALLER, address: '10.0.0.1', port: 40000, certificateNotAfterMs: NOW_MS + 1 },
  target: { spiffeId: parseSpiffeId('spiffe://partner.example/api'), address: '10.0.0.2', port: 443 },
  http: { method: 'POST', path: '/pay/1?x=y', host: 'api', headers: { accept: '*/*' } },
};
const inbound = { nowMs: NOW_MS, direction: 'inbound' } as const;

interface Schema {
  readonly type: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly enum?: readonly string[];
}

/** Paths of fields that the document lacks (`-`), has beyond the schema (`+`) or has in another type (`~`). */
function differences(node: Schema, value: unknown, path: string): string[] {
  if (!isOfType(node, value)) return [`~${path}`];
  if (node.properties === undefined) return [];
  const fields = value as Readonly<Record<string, unknown>>;
  const properties = node.properties;
  return [
    ...Object.keys(fields).flatMap((key) => (key in properties ? [] : [`+${path}.${key}`])),
    ...Object.entries(properties).flatMap(([key, child]) =>
      key in fields ? differences(child, fields[key], `${path}.${key}`) : [`-${path}.${key}`],
    ),
  ];
}

function isOfType(node: Schema, value: unknown): boolean {
  if (node.enum !== undefined && !node.enum.includes(String(value))) return false;
  if (node.type === 'array') return Array.isArray(value);
  if (node.type === 'integer') return Number.isInteger(value);
  return typeof value === node.type;
}

describe('buildPolicyInput()', () => {
  test('has exactly the fields of policies/schema/input.json for a caller with an identity', () => {
    for (const http of [request.http, null])
      expect(differences(schema as Schema, buildPolicyInput({ ...request, http }, inbound), 'input')).toEqual(
        [],
      );
    const outside = { ...request, target: { ...request.target, spiffeId: null } };
    expect(differences(schema as Schema, buildPolicyInput(outside, inbound), 'input')).toEqual([]);
  });

  test('lacks only the names of a caller without identity, whose certificate ended in 1970', () => {
    const caller = { spiffeId: null, address: '10.0.0.9', port: 1, certificateNotAfterMs: 0 };
    const input = buildPolicyInput({ ...request, caller }, inbound);
    expect(differences(schema as Schema, input, 'input')).toEqual([
      '-input.caller.spiffe_id',
      '-input.caller.trust_domain',
      '-input.caller.path',
      '-input.attributes.source.principal',
    ]);
    expect(input).toMatchObject({ attributes: { source: { certificate_expiration: 0 } } });
    expect(JSON.stringify(input)).not.toContain('x-forwarded-client-cert');
  });

  test('carries our own fields', () => {
    expect(buildPolicyInput(request, inbound)).toMatchObject({
      caller: { spiffe_id: CALLER, trust_domain: 'example.org', path: '/ns/billing/sa/web', port: 40000 },
      target: { trust_domain: 'partner.example', path: '/api', address: '10.0.0.2' },
      request: { protocol: 'http', method: 'POST', path: '/pay/1', query: 'x=y', parsed_path: ['pay', '1'] },
      context: {
        direction: 'inbound',
        time: '2026-11-23T09:30:00.123Z',
        weekday: 'Monday',
        hour: 9,
        minute: 30,
      },
    });
  });

  test("carries Envoy's fields", () => {
    expect(buildPolicyInput(request, inbound)).toMatchObject({
      attributes: {
        source: { principal: CALLER, address: { socketAddress: { address: '10.0.0.1', portValue: 40000 } } },
        request: {
          http: {
            method: 'POST',
            path: '/pay/1?x=y',
            headers: { accept: '*/*', ':path': '/pay/1?x=y', ':authority': 'api' },
          },
        },
      },
      parsed_path: ['pay', '1'],
      parsed_query: { x: ['y'] },
    });
  });

  test('says which HTTP a request came by', () => {
    const httpOf = (http: DecisionRequest['http']): unknown =>
      (buildPolicyInput({ ...request, http }, inbound) as { attributes: { request: { http: unknown } } })
        .attributes.request.http;
    expect(httpOf(request.http)).toMatchObject({ protocol: 'HTTP/1.1', scheme: 'http' });
    const newer = { ...request.http!, protocol: 'HTTP/2', scheme: 'https' } as const;
    expect(httpOf(newer)).toMatchObject({ protocol: 'HTTP/2', scheme: 'https' });
    expect(httpOf(null)).toMatchObject({ protocol: '', scheme: '' });
  });

  test('gives nanoseconds whose text is exact', () => {
    const text = JSON.stringify(buildPolicyInput(request, inbound));
    expect(text).toContain('"time_ns":1795426200123000000');
    expect(text).toContain('"certificate_expiration":1795426200124000000');
  });

  test('names the verified caller in x-forwarded-client-cert and keeps one that does', () => {
    const headerOf = (headers: Record<string, string>): unknown => {
      const input = buildPolicyInput({ ...request, http: { ...request.http!, headers } }, inbound) as {
        readonly request: { readonly headers: Record<string, string> };
      };
      return input.request.headers['x-forwarded-client-cert'];
    };
    expect(headerOf({})).toBe(`By=spiffe://partner.example/api;URI=${CALLER}`);
    const own = `By=spiffe://partner.example/api;Hash=00ff;URI=${CALLER}`;
    expect(headerOf({ 'x-forwarded-client-cert': own })).toBe(own);
  });

  test('refuses an x-forwarded-client-cert that names somebody else', () => {
    const headers = { 'x-forwarded-client-cert': 'URI=spiffe://example.org/ns/billing/sa/web2' };
    const forged = { ...request, http: { ...request.http!, headers } };
    expect(reasonOf(() => buildPolicyInput(forged, inbound))).toBe('policy_error');
    const nobody = { ...forged, caller: { ...request.caller, spiffeId: null } };
    expect(reasonOf(() => buildPolicyInput(nobody, inbound))).toBe('policy_error');
  });

  test('refuses an ambiguous path', () => {
    const http = { ...request.http!, path: '/public/../admin' };
    expect(reasonOf(() => buildPolicyInput({ ...request, http }, inbound))).toBe('policy_error');
  });
});
