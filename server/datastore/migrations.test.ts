import { describe, expect, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateDrizzleJson, generateMigration } from 'drizzle-kit/api';
import { MIGRATIONS } from './migrations.ts';
import * as schema from './schema.ts';

const folder = join(import.meta.dirname, 'migrations');

describe('MIGRATIONS', () => {
  test('are the files of the folder, in order', () => {
    const files = readdirSync(folder)
      .filter((name) => name.endsWith('.sql'))
      .toSorted();
    expect(MIGRATIONS.map((migration) => `${migration.id}.sql`)).toEqual(files);
    for (const { id, sql } of MIGRATIONS) expect(sql).toBe(readFileSync(join(folder, `${id}.sql`), 'utf8'));
  });

  test('lead to the schema', async () => {
    const newest = readdirSync(join(folder, 'meta'))
      .filter((name) => name.endsWith('_snapshot.json'))
      .toSorted()
      .at(-1);
    const text = readFileSync(join(folder, 'meta', newest ?? ''), 'utf8');
    expect(await generateMigration(JSON.parse(text), generateDrizzleJson(schema))).toEqual([]);
    // And the comparison does see a difference.
    expect(await generateMigration(generateDrizzleJson({}), JSON.parse(text))).not.toEqual([]);
  });
});
