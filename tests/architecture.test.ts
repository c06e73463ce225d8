import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

/** The rules of ARCHITECTURE.md, held over the imports of every source file. */

const root = resolve(import.meta.dirname, '..');
const sources = [...new Bun.Glob('{agent,server,shared,cli}/**/*.ts').scanSync(root)]
  .filter((path) => !path.endsWith('_pb.ts'))
  .toSorted();

interface Import {
  readonly from: string;
  /** Path inside the project, or the name of a package. */
  readonly to: string;
  readonly isTypeOnly: boolean;
}

const imports: readonly Import[] = sources.flatMap(importsOf);
const ofCode = imports.filter(({ from }) => !isTest(from));

describe('architecture', () => {
  test('the sources were found', () => {
    expect(sources.length).toBeGreaterThan(30);
    expect(imports.length).toBeGreaterThan(50);
  });

  test('shared/ knows neither binary', () => {
    expect(
      violations(ofCode, (i) => i.from.startsWith('shared/') && /^(agent|server|cli)\//.test(i.to)),
    ).toEqual([]);
  });

  test('agent/ and server/ do not know each other', () => {
    expect(violations(ofCode, (i) => i.from.startsWith('agent/') && i.to.startsWith('server/'))).toEqual([]);
    expect(violations(ofCode, (i) => i.from.startsWith('server/') && i.to.startsWith('agent/'))).toEqual([]);
  });

  test('shared/wire, shared/spiffe and shared/policy use no sockets, files, processes or bun:ffi', () => {
    const impure =
      /^(node:(fs|net|tls|http|http2|https|dgram|child_process|os|dns|worker_threads)|bun:ffi|bun)(\/|$)/;
    expect(violations(ofCode, (i) => isPure(i.from) && impure.test(i.to))).toEqual([]);
  });

  test('shared/wire, shared/spiffe and shared/policy take time and random bytes as arguments', () => {
    const ambient =
      /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|\bperformance\.now\(|\brandomBytes\(|\bgetRandomValues\(|\bprocess\.env\b|\bBun\.env\b/;
    const found = sources.filter((path) => isPure(path) && !isTest(path) && ambient.test(code(path)));
    expect(found).toEqual([]);
  });

  test('bun:ffi stands only in agent/native', () => {
    expect(violations(ofCode, (i) => i.to === 'bun:ffi' && !i.from.startsWith('agent/native/'))).toEqual([]);
  });

  test('an adapter is imported only by main.ts, its own folder and tests', () => {
    const adapters = new Set([
      'server/datastore/postgres.ts',
      'server/datastore/pglite.ts',
      'server/key-manager/memory.ts',
      'server/key-manager/encrypted-disk.ts',
      'server/node-attestation/join-token.ts',
      'server/node-attestation/tpm.ts',
      'shared/policy/opa-wasm.ts',
      'agent/key-store/memory.ts',
      'agent/key-store/sealed-disk.ts',
      'agent/node-attestation/join-token.ts',
      'agent/node-attestation/tpm.ts',
      'agent/capture/nft.ts',
      'agent/capture/ebpf.ts',
      'agent/users/key-file.ts',
      'agent/users/key-url.ts',
      'agent/workload-attestation/unix.ts',
      'agent/workload-attestation/kernel-holder-finder.ts',
      'agent/workload-attestation/thread-holder-finder.ts',
    ]);
    expect([...adapters].filter((path) => !sources.includes(path))).toEqual([]);
    const isAllowed = (i: Import): boolean =>
      /(^|\/)main\.ts$/.test(i.from) || dirname(i.from) === dirname(i.to);
    expect(violations(ofCode, (i) => adapters.has(i.to) && !i.isTypeOnly && !isAllowed(i))).toEqual([]);
  });

  test('every port that has adapters has a contract suite', () => {
    const folders = [
      'server/datastore',
      'server/key-manager',
      'agent/key-store',
      'agent/capture',
      'agent/workload-attestation',
      'agent/users',
    ];
    expect(folders.filter((folder) => !sources.includes(`${folder}/contract.ts`))).toEqual([]);
  });

  test('only the command line and the composition roots read the environment or end the process', () => {
    const reach = /\bprocess\.(env|exit|argv)\b/;
    const allowed = (path: string): boolean =>
      path.startsWith('cli/') || /\/(main|secrets)\.ts$/.test(path) || path.startsWith('shared/config/');
    expect(sources.filter((path) => !isTest(path) && !allowed(path) && reach.test(code(path)))).toEqual([]);
  });

  test('there is no folder or file named utils, helpers, common or misc', () => {
    expect(sources.filter((path) => /(^|\/)(utils?|helpers?|common|misc)(\/|\.|-)/.test(path))).toEqual([]);
  });

  test('exports are named', () => {
    expect(
      sources.filter((path) => !path.endsWith('.config.ts') && /^export default\b/m.test(code(path))),
    ).toEqual([]);
  });
});

function importsOf(path: string): readonly Import[] {
  const found: Import[] = [];
  for (const match of code(path).matchAll(
    /^(?:import|export)\s+(type\s+)?[^'";]*?from\s+'([^']+)'|\bimport\('([^']+)'\)|^import\s+'([^']+)'/gm,
  )) {
    const target = match[2] ?? match[3] ?? match[4] ?? '';
    const to = target.startsWith('.') ? relative(root, join(root, dirname(path), target)) : target;
    found.push({ from: path, to, isTypeOnly: match[1] !== undefined });
  }
  return found;
}

function code(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

function isTest(path: string): boolean {
  return path.endsWith('.test.ts') || path.endsWith('/contract.ts') || /\/fixtures\/|-child\.ts$/.test(path);
}

function isPure(path: string): boolean {
  return /^shared\/(wire|spiffe|policy)\//.test(path);
}

function violations(from: readonly Import[], isWrong: (i: Import) => boolean): readonly string[] {
  return from.filter(isWrong).map((i) => `${i.from} imports ${i.to}`);
}
