import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, runOk } from '../../tests/kit/child.ts';
import { silentLog, TEST_TRUST_DOMAIN } from '../../tests/kit/datastore.ts';
import { createTestDatabase, type TestDatabase } from '../../tests/kit/postgres.ts';
import { buildPgliteTemplate, TEMPLATE_FILE } from './build-template.ts';
import { openDatastore } from './open-datastore.ts';

// One test compiles an executable.
setDefaultTimeout(60_000);

describe('openDatastore()', () => {
  let folder: string;
  let database: TestDatabase;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'picket-open-'));
    database = await createTestDatabase();
    await buildPgliteTemplate(TEMPLATE_FILE);
  });
  afterAll(async () => {
    await database.drop();
    rmSync(folder, { recursive: true, force: true });
  });
  const base = { trustDomain: TEST_TRUST_DOMAIN, log: silentLog };

  test('opens PostgreSQL by its URL, even beside a data directory', async () => {
    const datastore = await openDatastore({
      ...base,
      url: database.url,
      dataDirectory: join(folder, 'unused'),
    });
    expect((await datastore.position()).sequence).toBe(0);
    await datastore.close();
    expect(await Bun.file(join(folder, 'unused', 'picket.lock')).exists()).toBe(false);
  });

  test('opens PGlite in a data directory', async () => {
    const datastore = await openDatastore({ ...base, dataDirectory: join(folder, 'pglite') });
    expect((await datastore.position()).sequence).toBe(0);
    await datastore.close();
  });

  test('refuses to guess', () => {
    expect(openDatastore(base)).rejects.toMatchObject({
      code: 'invalid_argument',
      reason: 'database_missing',
    });
  });

  test('PGlite, its template and the migrations are in a compiled binary, and data outlive a kill', async () => {
    const module = (name: string): string => JSON.stringify(join(import.meta.dirname, name));
    const entry = join(folder, 'entry.ts');
    await Bun.write(
      entry,
      `import { openDatastore } from ${module('open-datastore.ts')};
       const log = { warn() {}, info() {}, error() {}, debug() {}, with() { return log; } };
       const startedMs = performance.now();
       const datastore = await openDatastore({ dataDirectory: process.argv[2], trustDomain: 'example.org', log });
       await datastore.write(async ({ changed }) => changed({ kind: 'entry', key: 'k' }));
       console.log(JSON.stringify({ ...(await datastore.position()), openedMs: performance.now() - startedMs }));
       process.kill(process.pid, 'SIGKILL');`,
    );
    const built = join(folder, 'built');
    const options = ['--compile', '--bytecode', '--format=esm', '--minify', `--outfile=${built}`];
    await runOk([process.execPath, 'build', ...options, entry], { withinMs: 60_000, cwd: folder });
    // Away from the sources, or PGlite would find its files beside them.
    const alone = mkdtempSync(join(tmpdir(), 'picket-alone-'));
    cpSync(built, join(alone, 'binary'));
    const outcomes = [];
    for (let i = 0; i < 3; i += 1) {
      const { stdout, stderr } = await run([join(alone, 'binary'), join(alone, 'data')], { cwd: alone });
      if (stdout === '') throw new Error(stderr);
      outcomes.push(JSON.parse(stdout) as { epoch: string; sequence: number });
    }
    rmSync(alone, { recursive: true, force: true });
    expect(outcomes.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    expect(new Set(outcomes.map(({ epoch }) => epoch)).size).toBe(1);
  });
});
