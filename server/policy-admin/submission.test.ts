import { describe, expect, test } from 'bun:test';
import { gzipSync } from 'node:zlib';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { buildTar } from '../../shared/policy/tar.ts';
import { MAX_SUBMISSION_BYTES, parseSubmission } from './submission.ts';

function tarGz(files: Readonly<Record<string, string | Uint8Array>>): Uint8Array {
  return gzipSync(buildTar(new Map(Object.entries(files).map(([name, body]) => [name, Buffer.from(body)]))));
}

function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

describe('parseSubmission()', () => {
  test('reads an archive, keeps what is of a policy and names the rest', () => {
    const body = tarGz({
      'a/policy.rego': 'package a\n',
      'data.json': '{}',
      'b/data.yaml': 'x: 1\n',
      'README.md': '# hello',
      'logo.png': new Uint8Array([0x89, 0xff]),
      '.git/data.json': '{}',
      'other.json': '{}',
      '.manifest': '{"rego_version": 1, "roots": ["a"]}',
    });
    expect(parseSubmission(body, 'from the archive')).toEqual({
      files: { 'a/policy.rego': 'package a\n', 'b/data.yaml': 'x: 1\n', 'data.json': '{}' },
      message: 'from the archive',
      ignoredFiles: ['README.md', 'logo.png', '.git/data.json', 'other.json'],
    });
  });

  test('reads JSON', () => {
    const body = json({ files: { 'p.rego': 'package a\n' }, message: 'first' });
    expect(parseSubmission(body)).toEqual({
      files: { 'p.rego': 'package a\n' },
      message: 'first',
      ignoredFiles: [],
    });
  });

  test('keeps the declaration of Rego v0 and nothing else of a manifest', () => {
    const expected = { 'p.rego': 'package a\n', '.manifest': '{"rego_version":0}\n' };
    const archive = tarGz({
      'p.rego': 'package a\n',
      '.manifest': '{"rego_version":0,"wasm":[{"entrypoint":"a"}]}',
    });
    expect(parseSubmission(archive).files).toEqual(expected);
    const body = json({ files: { 'p.rego': 'package a\n' }, rego_version: 0 });
    expect(parseSubmission(body).files).toEqual(expected);
    expect(parseSubmission(json({ files: expected })).files).toEqual(expected);
  });

  test.each([
    ['no gzip and no JSON', Buffer.from('package a')],
    ['an empty body', Buffer.from('')],
    ['bytes that are not UTF-8', Buffer.from([0xff, 0xfe])],
    ['no Rego', json({ files: { 'data.json': '{}' } })],
    ['no files', json({ files: {} })],
    ['a language that is not known', json({ files: { 'p.rego': '' }, rego_version: 2 })],
    ['an unknown field', json({ files: { 'p.rego': '' }, target: 'admin' })],
    ['a text that is none', json({ files: { 'p.rego': 1 } })],
    ['a file that is none of a policy', json({ files: { 'p.rego': '', '.signatures.json': '{}' } })],
    ['a name twice', json({ files: { 'p.rego': '', './p.rego': '' } })],
    ['a Rego file that is not UTF-8', tarGz({ 'p.rego': new Uint8Array([0xff]) })],
    ['a manifest that is none', tarGz({ 'p.rego': '', '.manifest': '{"rego_version": "v0"}' })],
  ])('refuses %s', (_what, body) => {
    expect(reasonOf(() => parseSubmission(body))).toBe('submission_invalid');
  });

  test.each(['../p.rego', 'a/../../p.rego', '/etc/../p.rego', 'a//p.rego', 'p\u0000.rego'])(
    'refuses the name %j',
    (name) => {
      expect(reasonOf(() => parseSubmission(json({ files: { [name]: 'package a' } })))).toBe(
        'archive_invalid',
      );
    },
  );

  test('refuses what is too big, compressed or not', () => {
    expect(reasonOf(() => parseSubmission(new Uint8Array(MAX_SUBMISSION_BYTES + 1)))).toBe('policy_too_big');
    const bomb = tarGz({ 'p.rego': Buffer.alloc(30 * 1024 * 1024) });
    expect(bomb.length).toBeLessThan(100_000);
    expect(reasonOf(() => parseSubmission(bomb))).toBe('archive_too_big');
    const many = Object.fromEntries(Array.from({ length: 600 }, (_, i) => [`${i}.rego`, 'package a']));
    expect(reasonOf(() => parseSubmission(json({ files: many })))).toBe('policy_too_big');
  });
});
