import { describe, expect, test } from 'bun:test';
import { PicketError } from '../errors/errors.ts';
import { parseSpiffeId } from '../spiffe/spiffe-id.ts';
import { enforcementModeOf, parseEnforcementScope, splitEnforcementScope } from './enforcement.ts';
import type { EnforcementMode } from './enforcement.ts';

const id = (path: string) => parseSpiffeId(`spiffe://example.org${path}`);
const scope = (path: string) => parseEnforcementScope(`spiffe://example.org${path}`);

describe('parseEnforcementScope()', () => {
  test.each(['/shop/web', '/shop/*', '/*'])('takes spiffe://example.org%s', (path) => {
    const { id: begin, isBelow } = splitEnforcementScope(scope(path));
    expect([String(begin), isBelow]).toEqual([
      `spiffe://example.org${path.replace(/\/\*$/, '')}`,
      path.endsWith('*'),
    ]);
  });

  test('spells a scope in one way', () => {
    expect(parseEnforcementScope('SPIFFE://Example.ORG/Shop/*')).toBe(scope('/Shop/*'));
  });

  test.each([
    '',
    '*',
    '/*',
    '/shop',
    'spiffe://example.org',
    'spiffe://example.org/',
    'spiffe://example.org*',
    'spiffe://example.org/shop/',
    'spiffe://example.org/sh*',
    'spiffe://example.org/*/web',
    'spiffe://example.org/shop/**',
    'spiffe://example.org/shop//*',
    'spiffe://*/*',
    'https://example.org/shop',
  ])('refuses %p', (text) => {
    const refused = (() => {
      try {
        return parseEnforcementScope(text);
      } catch (error) {
        return error;
      }
    })();
    expect(refused).toBeInstanceOf(PicketError);
    expect(refused).toMatchObject({ code: 'invalid_argument', reason: 'enforcement_scope_invalid' });
  });
});

describe('enforcementModeOf()', () => {
  const modes = new Map<ReturnType<typeof scope>, EnforcementMode>([
    [scope('/shop/*'), 'audit'],
    [scope('/shop/web'), 'enforce'],
    [scope('/shop/back/*'), 'enforce'],
    [scope('/shop/back/office/list'), 'audit'],
    [scope('/single'), 'audit'],
  ]);

  test.each([
    ['/shop/app', 'audit'],
    ['/shop/app/one', 'audit'],
    ['/shop/web', 'enforce'],
    ['/shop/web/below', 'audit'],
    ['/shop/back', 'audit'],
    ['/shop/back/x', 'enforce'],
    ['/shop/back/office/list', 'audit'],
    ['/single', 'audit'],
    ['/single/below', 'enforce'],
    ['/shop', 'enforce'],
    ['/shopping/app', 'enforce'],
    ['/other', 'enforce'],
  ] as const)('enforcementModeOf() takes the nearest scope: %s is %s', (path, mode) => {
    expect(enforcementModeOf(id(path), modes)).toBe(mode);
  });

  test('enforcementModeOf() enforces what has no identity, and everything where nothing is said', () => {
    expect(enforcementModeOf(null, modes)).toBe('enforce');
    expect(enforcementModeOf(id('/shop/app'), new Map())).toBe('enforce');
    const everything = new Map([[scope('/*'), 'audit' as const]]);
    expect(enforcementModeOf(id('/a'), everything)).toBe('audit');
    expect(enforcementModeOf(parseSpiffeId('spiffe://other.org/a'), everything)).toBe('enforce');
  });
});
