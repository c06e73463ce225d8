import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openTestPglite, pgliteTemplate, TEST_TRUST_DOMAIN } from '../../tests/kit/datastore.ts';
import { run } from '../../tests/kit/child.ts';
import { describeDatastore } from './contract.ts';
import { lockDirectory } from './directory-lock.ts';
import { openPglite } from './pglite.ts';

describeDatastore('PGlite', openTestPglite);

describe('openPglite() with a data directory', () => {
  let folder: string;
  let template: Blob;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'picket-pglite-'));
    template = await pgliteTemplate();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const open = (name: string) =>
    openPglite({ dataDirectory: join(folder, name), trustDomain: TEST_TRUST_DOMAIN, template });

  test('keeps what was committed', async () => {
    const first = await open('kept');
    await first.write(async ({ changed }) => changed({ kind: 'entry', key: 'k' }));
    const position = await first.position();
    await first.close();
    await first.close();
    const second = await open('kept');
    expect(await second.position()).toEqual(position);
    await second.close();
  });

  test('refuses a directory that is already open', async () => {
    const first = await open('locked');
    expect(open('locked')).rejects.toMatchObject({
      code: 'failed_precondition',
      reason: 'data_directory_locked',
    });
    await first.close();
    await (await open('locked')).close();
  });

  test('begins again when a first start was cut short', async () => {
    await Bun.write(join(folder, 'cut', 'pglite', 'PG_VERSION'), '18');
    await Bun.write(join(folder, 'cut', 'pglite.unfinished'), '');
    const datastore = await open('cut');
    expect((await datastore.position()).sequence).toBe(0);
    await datastore.close();
  });
});

describe('lockDirectory()', () => {
  test('holds against another process and ends with its holder, however that ends', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'picket-lock-'));
    const module = join(import.meta.dirname, 'directory-lock.ts');
    const script = `const { lockDirectory } = await import(${JSON.stringify(module)});
      try { lockDirectory(${JSON.stringify(folder)}); console.log('locked'); process.kill(process.pid, 'SIGKILL'); await Bun.sleep(60000); }
      catch (error) { console.log(error.reason); }`;
    const lock = lockDirectory(folder);
    expect((await run([process.execPath, '-e', script])).stdout.trim()).toBe('data_directory_locked');
    lock.release();
    expect((await run([process.execPath, '-e', script])).stdout.trim()).toBe('locked');
    lockDirectory(folder).release();
    rmSync(folder, { recursive: true, force: true });
  });
});
