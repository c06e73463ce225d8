import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { chmodSync, chownSync, copyFileSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  makeInspectionAuthority,
  type InspectionAuthorityFiles,
} from '../../tests/kit/inspection-authority.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { readInspection } from './read-inspection.ts';

let folder: string;
let files: InspectionAuthorityFiles;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-read-inspection-'));
  files = await makeInspectionAuthority(folder);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function read(keyFile: string, certificateFile = files.certificate) {
  return await readInspection({ certificateFile, keyFile, serverAuthoritiesFile: undefined });
}

describe('readInspection()', () => {
  test('reads nothing where nothing is configured', async () => {
    expect(await readInspection(undefined)).toBeUndefined();
  });

  test('reads certificate and key, and the authorities of this host unless others are named', async () => {
    const material = await read(files.key);
    expect(material).toMatchObject({
      chainPem: readFileSync(files.certificate, 'latin1'),
      keyPem: readFileSync(files.key, 'latin1'),
    });
    expect(material?.serverAuthoritiesPem.match(/BEGIN CERTIFICATE/g)?.length).toBeGreaterThan(10);
    const named = await readInspection({
      certificateFile: files.certificate,
      keyFile: files.key,
      serverAuthoritiesFile: files.certificate,
    });
    expect(named?.serverAuthoritiesPem).toBe(readFileSync(files.certificate, 'latin1'));
  });

  test('refuses a key that others may read, that is another’s, or that a link leads to', async () => {
    const copy = (name: string): string => {
      const path = join(folder, name);
      copyFileSync(files.key, path);
      chmodSync(path, 0o600);
      return path;
    };
    const open = copy('open.key');
    for (const mode of [0o640, 0o604, 0o660]) {
      chmodSync(open, mode);
      expect(await refusalOf(read(open))).toMatchObject({
        code: 'failed_precondition',
        reason: 'inspection_invalid',
      });
    }
    const foreign = copy('foreign.key');
    chownSync(foreign, 7001, 7001);
    expect((await refusalOf(read(foreign))).message).toContain('uid 7001');
    const link = join(folder, 'link.key');
    symlinkSync(files.key, link);
    const refusal = await refusalOf(read(link));
    expect(refusal.reason).toBe('inspection_invalid');
    expect(refusal.message).toContain('link.key is a symbolic link');
  });

  test('says which file is missing', async () => {
    expect((await refusalOf(read(join(folder, 'none.key')))).message).toContain('none.key');
    expect((await refusalOf(read(files.key, join(folder, 'none.pem')))).message).toContain('none.pem');
  });
});
