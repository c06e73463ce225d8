import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { AGENT_CONFIG_EXAMPLE } from '../agent/config/config-example.ts';
import { agentConfigFile } from '../agent/config/config-schema.ts';
import { serverConfigFile } from '../server/config.ts';
import { SERVER_CONFIG_EXAMPLE } from '../server/config-example.ts';
import { DECISION_REASONS } from '../shared/policy/decision.ts';

/** What the pages of docs/ list is all that there is, and nothing else: settings with their defaults, metrics, reasons, checks of the doctor. */

const root = resolve(import.meta.dirname, '..');

const LEAST = {
  agent: {
    trust_domain: 'example.org',
    servers: ['server.example.org:8443'],
    trust: { bundle_file: '/etc/picket/bundle.pem' },
    attestation: { tpm: {} },
  },
  server: { trust_domain: 'example.org', ca: { directory: '/etc/picket/ca-online' } },
};

/** Settings that have a table of their own on another page. */
const ON_ANOTHER_PAGE = /^traces\./;

/** One line of a table of docs/configuration.md. */
interface Row {
  readonly keys: readonly string[];
  readonly fallback: string;
  readonly text: string;
}

describe.each([
  { role: 'agent', schema: agentConfigFile, example: AGENT_CONFIG_EXAMPLE },
  { role: 'server', schema: serverConfigFile, example: SERVER_CONFIG_EXAMPLE },
] as const)('the settings of the $role', ({ role, schema, example }) => {
  const rows = rowsOf(role);
  const keys = keysOf(schema);

  test('stand in docs/configuration.md, each of them and nothing else', () => {
    expect(keys.length).toBeGreaterThan(15);
    const isTold = (key: string): boolean =>
      rows.some(
        (row) =>
          row.keys.includes(key) || (row.keys.includes(listOf(key)) && row.text.includes(`${lastOf(key)}:`)),
      );
    expect(keys.filter((key) => !ON_ANOTHER_PAGE.test(key) && !isTold(key))).toEqual([]);
    const isThere = (key: string): boolean =>
      keys.some((known) => known === key || known.startsWith(`${key}.`));
    expect(rows.flatMap((row) => row.keys).filter((key) => !isThere(key))).toEqual([]);
  });

  test('have the defaults that docs/configuration.md names', () => {
    const values = schema.parse(LEAST[role]);
    const named = rows.flatMap((row) => namedDefault(row));
    expect(named.length).toBeGreaterThan(5);
    for (const { key, literal } of named)
      expect(`${key}: ${shown(valueAt(values, key))}`).toBe(`${key}: ${shown(Bun.YAML.parse(literal))}`);
  });

  test('stand in the example', () => {
    const words = new Set(example.match(/[a-z][a-z0-9_]*(?=:)/g));
    expect(keys.filter((key) => !words.has(lastOf(key)))).toEqual([]);
  });
});

test('docs/traces.md names every key of traces', () => {
  const page = read('docs/traces.md');
  const keys = keysOf(agentConfigFile).filter((key) => ON_ANOTHER_PAGE.test(key));
  expect(keys.length).toBeGreaterThan(0);
  expect(keys.filter((key) => !page.includes(`\n| \`${lastOf(key)}\` |`))).toEqual([]);
});

test('docs/troubleshooting.md and docs/workers.md name every metric', () => {
  const pages = read('docs/troubleshooting.md') + read('docs/workers.md');
  const sources = ['agent/admin/*.ts', 'server/**/*.ts', 'shared/runtime/*.ts'].flatMap(sourcesOf);
  const metrics = new Set(
    sources.flatMap((text) => text.match(/(?<=')(?:picket|process)_[a-z_]+(?=',\s)/g) ?? []),
  );
  expect(metrics.size).toBeGreaterThan(40);
  expect([...metrics].filter((metric) => !pages.includes(`\`${metric}\``))).toEqual([]);
});

test('docs/troubleshooting.md tells of every reason of a denial', () => {
  const page = read('docs/troubleshooting.md');
  const reasons = Object.keys(DECISION_REASONS).filter((reason) => reason !== 'policy_allow');
  expect(reasons.filter((reason) => !page.includes(`\n| \`${reason}\` |`))).toEqual([]);
});

test('docs/troubleshooting.md lists every check of the doctor', () => {
  const [, lines = ''] = /\| of \| check \| \|\n((?:\|.*\n)+)/.exec(read('docs/troubleshooting.md')) ?? [];
  const listed = new Set(
    lines.split('\n').flatMap(
      (line) =>
        line
          .split('|')[2]
          ?.split(',')
          .map((name) => name.trim()) ?? [],
    ),
  );
  const checks = sourcesOf('cli/doctor/*.ts').flatMap((text) =>
    [...text.matchAll(/\b(?:check|checkerOf\([a-z]+\))\(\s*'([a-z_ ]+)',/g)].map(([, name]) => name ?? ''),
  );
  expect(checks.length).toBeGreaterThan(20);
  expect([...new Set(checks)].filter((name) => !listed.has(name))).toEqual([]);
});

/** The keys that a schema takes with all levels above them; `[]` stands behind a list of objects. */
function keysOf(schema: z.core.$ZodType, prefix = ''): readonly string[] {
  if (schema instanceof z.ZodObject)
    return Object.entries(schema.shape).flatMap(([name, inner]) =>
      keysOf(inner as z.core.$ZodType, prefix === '' ? name : `${prefix}.${name}`),
    );
  if (schema instanceof z.ZodArray) {
    const inner = keysOf(schema.element, `${prefix}[]`);
    return [prefix, ...inner.filter((key) => key !== `${prefix}[]`)];
  }
  const isWrapped =
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable;
  return isWrapped ? keysOf(schema.unwrap(), prefix) : [prefix];
}

/** The table of a role. A key that begins with a dot stands beside the one before it. */
function rowsOf(role: 'agent' | 'server'): readonly Row[] {
  const [, rest = ''] = read('docs/configuration.md').split(`\n## ${role}.yaml\n`);
  const [section = ''] = rest.split('\n## ');
  const lines = section.split('\n').filter((line) => line.startsWith('| `'));
  return lines.map((text) => {
    const [names = '', fallback = ''] = text.slice('| '.length).split(' | ');
    return { keys: keysIn(names), fallback, text };
  });
}

function keysIn(names: string): readonly string[] {
  const keys: string[] = [];
  for (const [, name = ''] of names.matchAll(/`([^`]+)`/g))
    keys.push(name.startsWith('.') ? `${keys[0]?.slice(0, keys[0].lastIndexOf('.'))}${name}` : name);
  return keys;
}

/** Not those that only tell of a value (`<data_dir>/keys`), nor those of lists. */
function namedDefault({
  keys: [key = ''],
  fallback,
}: Row): readonly { readonly key: string; readonly literal: string }[] {
  const [, literal] = /^`([^`<>]+)`$/.exec(fallback) ?? [];
  return literal === undefined || key.includes('[]') ? [] : [{ key, literal }];
}

function valueAt(value: unknown, key: string): unknown {
  let at = value;
  for (const name of key.split('.')) at = (at as Readonly<Record<string, unknown>> | undefined)?.[name];
  return at;
}

/** Host and port as they are written in a file. */
function shown(value: unknown): string {
  const parsed = z.strictObject({ host: z.string(), port: z.number() }).safeParse(value);
  return JSON.stringify(parsed.success ? `${parsed.data.host}:${parsed.data.port}` : value);
}

function listOf(key: string): string {
  return key.slice(0, Math.max(0, key.lastIndexOf('[]')));
}

function lastOf(key: string): string {
  return key.slice(key.lastIndexOf('.') + 1);
}

function sourcesOf(pattern: string): readonly string[] {
  const paths = [...new Bun.Glob(pattern).scanSync(root)].filter((path) => !path.endsWith('.test.ts'));
  return paths.map(read);
}

function read(path: string): string {
  return readFileSync(resolve(root, path), 'utf8');
}
