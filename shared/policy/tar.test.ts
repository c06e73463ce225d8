import { describe, expect, test } from 'bun:test';
import { mkdtempSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { buildPolicyBundle, readPolicyBundle, readTarGz } from './policy-bundle.ts';
import { buildTar, parseSafeName, readTar } from './tar.ts';

const LIMITS = { maxFiles: 8, maxFileBytes: 4096 };
const longName = `${'folder/'.repeat(20)}policy.rego`;
const files = new Map([
  ['a.rego', Buffer.from('package a\n')],
  ['empty', Buffer.alloc(0)],
  ['deep/er/data.json', Buffer.alloc(513, 'x')],
]);

/** An archive made by the tar of the machine. */
function systemTar(arguments_: readonly string[]): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'picket-tar-'));
  try {
    mkdirSync(join(folder, longName, '..'), { recursive: true });
    writeFileSync(join(folder, longName), 'package long\n');
    writeFileSync(join(folder, 'a.rego'), 'package a\n');
    symlinkSync('/etc/passwd', join(folder, 'link'));
    const output = join(folder, 'out');
    const tar = Bun.spawnSync(['tar', '-cf', output, ...arguments_], { cwd: folder });
    if (!tar.success) throw new Error(tar.stderr.toString());
    return readFileSync(output);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('readTar()', () => {
  test('reads what buildTar() built', () => {
    expect(new Map(readTar(buildTar(files), LIMITS))).toEqual(files);
  });

  test.each(['gnu', 'pax', 'posix', 'ustar'])('reads an archive of the machine in format %s', (format) => {
    const read = readTar(systemTar([`--format=${format}`, './a.rego', './folder']), LIMITS);
    expect([...read.keys()]).toEqual(['a.rego', longName]);
    expect(Buffer.from(read.get(longName)!).toString()).toBe('package long\n');
  });

  test('refuses a link', () => {
    expect(reasonOf(() => readTar(systemTar(['link']), LIMITS))).toBe('archive_invalid');
  });

  test('refuses unsafe and repeated names', () => {
    for (const name of ['../a', 'a/../b', 'a//b', 'a/.', '..', 'a\\b', 'a\nb', '']) {
      const archive = buildTar(new Map([['x'.repeat(name.length), Buffer.alloc(0)]]));
      expect(reasonOf(() => readTar(rename(archive, name), LIMITS))).toBe('archive_invalid');
    }
    const twice = Buffer.concat([buildTar(files).subarray(0, 1024), buildTar(files)]);
    expect(reasonOf(() => readTar(twice, LIMITS))).toBe('archive_invalid');
  });

  test('refuses an archive cut at any byte, and one with any byte of a header changed', () => {
    const archive = buildTar(new Map([['a', Buffer.from('x')]]));
    for (let length = 0; length <= 1024; length++)
      expect(reasonOf(() => readTar(archive.subarray(0, length), LIMITS))).toBe('archive_invalid');
    // 154 and 155 are the checksum's terminators.
    for (let at = 0; at < 512; at++) {
      if (at === 154 || at === 155) continue;
      const changed = Uint8Array.from(archive);
      changed[at]! ^= 1;
      expect(reasonOf(() => readTar(changed, LIMITS))).toBe('archive_invalid');
    }
  });

  test('refuses more and longer files than its limits', () => {
    expect(reasonOf(() => readTar(buildTar(files), { ...LIMITS, maxFiles: 2 }))).toBe('archive_too_big');
    expect(reasonOf(() => readTar(buildTar(files), { ...LIMITS, maxFileBytes: 512 }))).toBe(
      'archive_too_big',
    );
  });
});

describe('parseSafeName()', () => {
  test('drops one leading slash or dot segment', () => {
    expect(['/data.json', './a/b.rego', 'a'].map(parseSafeName)).toEqual(['data.json', 'a/b.rego', 'a']);
  });
});

describe('readTarGz()', () => {
  test('refuses what is no gzip and what decompresses to more than its limit', () => {
    const bomb = gzipSync(Buffer.alloc(1 << 20));
    expect(reasonOf(() => readTarGz(bomb, { ...LIMITS, maxBytes: 1 << 16 }))).toBe('archive_too_big');
    expect(reasonOf(() => readTarGz(Buffer.from('nothing'), { ...LIMITS, maxBytes: 1 }))).toBe(
      'archive_invalid',
    );
  });
});

describe('readPolicyBundle()', () => {
  test('reads what buildPolicyBundle() built, and equal bundles are equal bytes', () => {
    const bundle = { wasm: Buffer.from('wasm'), data: Buffer.from('{}') };
    const artifact = buildPolicyBundle(bundle);
    expect(readPolicyBundle(artifact)).toEqual(bundle);
    expect(buildPolicyBundle(bundle)).toEqual(artifact);
  });

  test('refuses an artefact without its module or its data', () => {
    for (const name of ['policy.wasm', 'data.json']) {
      const artifact = gzipSync(buildTar(new Map([[name, Buffer.from('{}')]])));
      expect(reasonOf(() => readPolicyBundle(artifact))).toBe('policy_artifact_invalid');
    }
  });
});

/** The archive with the name of its first file replaced and the checksum made right. */
function rename(archive: Uint8Array, name: string): Uint8Array {
  const copy = Buffer.from(archive);
  copy.fill(0, 0, 100).write(name, 0);
  copy.fill(0x20, 148, 156);
  const sum = copy.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  copy.write(`${sum.toString(8).padStart(6, '0')}\u0000 `, 148, 'latin1');
  return copy;
}
