import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { constructedContextTag, contextTag } from './der-tag.ts';
import { derElement, derInteger, derSequence } from './der-writer.ts';
import { parseDnsNameConstraints, permitsDnsName } from './x509-name-constraints.ts';

const DNS = 2;
const EMAIL = 1;

function subtree(name: string, kind = DNS): Uint8Array {
  return derSequence(derElement(contextTag(kind), Buffer.from(name)));
}

function constraints(permitted: readonly Uint8Array[], excluded: readonly Uint8Array[]): Uint8Array {
  return derSequence(
    ...(permitted.length === 0 ? [] : [derElement(constructedContextTag(0), ...permitted)]),
    ...(excluded.length === 0 ? [] : [derElement(constructedContextTag(1), ...excluded)]),
  );
}

const allows = (value: Uint8Array, name: string): boolean =>
  permitsDnsName(parseDnsNameConstraints(value), name);

describe('permitsDnsName()', () => {
  test.each([
    ['partner.test', 'partner.test', true],
    ['partner.test', 'api.partner.test', true],
    ['partner.test', 'a.b.partner.test', true],
    ['Partner.TEST', 'api.partner.test', true],
    ['.partner.test', 'api.partner.test', true],
    ['.partner.test', 'partner.test', false],
    ['partner.test', 'evilpartner.test', false],
    ['partner.test', 'partner.test.evil', false],
    ['partner.test', 'test', false],
    ['', 'whatever.test', true],
  ])('permitted %p lets %p be certified: %p', (base, name, isPermitted) => {
    expect(allows(constraints([subtree(base)], []), name)).toBe(isPermitted);
    expect(allows(constraints([], [subtree(base)]), name)).toBe(!isPermitted);
  });

  test('what is excluded stays so within what is permitted', () => {
    const value = constraints([subtree('partner.test')], [subtree('secret.partner.test')]);
    expect(allows(value, 'api.partner.test')).toBe(true);
    expect(allows(value, 'a.secret.partner.test')).toBe(false);
  });

  test('constraints on names of another kind say nothing of DNS names', () => {
    expect(allows(constraints([subtree('partner.test', EMAIL)], []), 'other.test')).toBe(true);
    expect(allows(constraints([subtree('a.test', EMAIL), subtree('b.test')], []), 'a.test')).toBe(false);
  });
});

test('parseDnsNameConstraints() refuses what is no NameConstraints', () => {
  expect(reasonOf(() => parseDnsNameConstraints(derInteger(1n)))).toBe('der_invalid');
  expect(reasonOf(() => parseDnsNameConstraints(derSequence(derInteger(1n))))).toBe('trailing_bytes');
  const twice = Buffer.concat([derSequence(), derSequence()]);
  expect(reasonOf(() => parseDnsNameConstraints(twice))).toBe('trailing_bytes');
});
