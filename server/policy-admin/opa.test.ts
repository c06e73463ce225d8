import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import { SUPPORTED_BUILTINS } from '../../shared/policy/builtins/supported-builtins.ts';
import { createOpaWasmLoader } from '../../shared/policy/opa-wasm.ts';
import { OpaCompiler } from './opa.ts';
import type { PolicyFault, PolicyFiles } from './policy-compiler.ts';

const temporaryFolder = mkdtempSync(join(tmpdir(), 'picket-opa-test-'));
const compiler = new OpaCompiler({ executable: Bun.which('opa') ?? 'opa', temporaryFolder });
afterAll(() => rmSync(temporaryFolder, { recursive: true, force: true }));

const GOOD = 'package picket.authz\n\ndefault allow := false\n\nallow if input.request.method == "GET"\n';
const V0 = '{"rego_version":0}';

interface Refusal {
  readonly reason: string;
  readonly faults: readonly PolicyFault[];
}

async function refusalOf(files: PolicyFiles): Promise<Refusal | undefined> {
  try {
    await compiler.compile(files, 'mesh');
    return undefined;
  } catch (error) {
    if (!(error instanceof PicketError)) throw error;
    return { reason: error.reason, faults: (error.details?.['faults'] ?? []) as PolicyFault[] };
  }
}

describe('OpaCompiler.compile()', () => {
  test('builds an artefact that the engine loads, with the data and without the tests of the policy', async () => {
    const compiled = await compiler.compile(
      {
        'policy.rego': `${GOOD}\negress if input.target.port in data.ports.open\n`,
        'policy_test.rego':
          'package picket.authz_test\n\nimport data.picket.authz\n\ntest_get if authz.allow with input as {"request": {"method": "GET"}}\n',
        'ports/data.json': '{"open": [443]}',
      },
      'mesh',
    );
    expect(compiled.entrypoints).toEqual({ allow: 'picket/authz/allow', egress: 'picket/authz/egress' });
    expect(compiled.testCount).toBe(1);
    const engine = await createOpaWasmLoader().load(compiled.artifact);
    expect(engine.evaluate('picket/authz/allow', { request: { method: 'GET' } }, 0)).toBe(true);
    expect(engine.evaluate('picket/authz/egress', { target: { port: 443 } }, 0)).toBe(true);
    expect(engine.evaluate('picket/authz/egress', { target: { port: 80 } }, 0)).toBeUndefined();
  });

  test.each<[string, string, readonly (readonly string[])[] | undefined]>([
    [
      'fields',
      'input.request.method == "GET"; input.caller.path == "/a"',
      [
        ['caller', 'path'],
        ['request', 'method'],
      ],
    ],
    ['a field behind a variable', 'some name; input.request.headers[name] == "x"', [['request', 'headers']]],
    ['a field in the data', 'input.target.port in data.ports.open', [['target', 'port']]],
    ['the input in a function of its own', 'is_read(input)', [[]]],
    ['the input in a builtin', 'object.get(input, ["request", "method"], "") == "GET"', [[]]],
    [
      'a field of what was assigned',
      'asked := input.request; asked.method == "GET"',
      [['request', 'method']],
    ],
    ['nothing of the input', 'count(data.ports.open) > 0', []],
    ['the clock', 'time.now_ns() > 0; input.request.method == "GET"', undefined],
  ])('the artefact says what a policy reads that reads %s', async (_, condition, reads) => {
    const rego = `package picket.authz\n\nallow if {\n\t${condition.replaceAll('; ', '\n\t')}\n}\n`;
    const helper = 'package picket.authz\n\nis_read(asked) if asked.request.method == "GET"\n';
    const files = { 'policy.rego': rego, 'helper.rego': helper, 'ports/data.json': '{"open": [443]}' };
    const compiled = await compiler.compile(files, 'mesh');
    expect((await createOpaWasmLoader().load(compiled.artifact)).reads).toEqual(reads);
  });

  test('builds equal artefacts of equal policies', async () => {
    const files = { 'policy.rego': GOOD };
    const [first, second] = [await compiler.compile(files, 'mesh'), await compiler.compile(files, 'mesh')];
    expect(first.digest).toBe(second.digest);
  });

  test("takes Envoy's package where there is no package of ours, and Rego v0 where the manifest says so", async () => {
    const envoy = {
      'p.rego': 'package envoy.authz\n\ndefault allow = false\n\nallow { input.parsed_path[0] == "a" }\n',
    };
    expect((await refusalOf(envoy))?.reason).toBe('policy_syntax');
    const { entrypoints } = await compiler.compile({ ...envoy, '.manifest': V0 }, 'mesh');
    expect(entrypoints).toEqual({ allow: 'envoy/authz/allow' });
    const both = { 'p.rego': GOOD, 'q.rego': 'package envoy.authz\n\nallow := true\n' };
    expect((await compiler.compile(both, 'mesh')).entrypoints).toEqual({ allow: 'picket/authz/allow' });
  });

  const refused: readonly (readonly [string, PolicyFiles, Refusal['reason'], string, number, string])[] = [
    [
      'a syntax error',
      { 'a/b.rego': 'package picket.authz\n\nallow if {\n' },
      'policy_syntax',
      'a/b.rego',
      4,
      'eof',
    ],
    [
      'Rego v0 that is not declared',
      { 'p.rego': 'package picket.authz\n\nallow { true }\n' },
      'policy_syntax',
      'p.rego',
      3,
      'if',
    ],
    [
      'a misspelt field of the input',
      { 'p.rego': GOOD.replace('method', 'metod') },
      'policy_type',
      'p.rego',
      5,
      'metod',
    ],
    [
      'an unknown function',
      { 'p.rego': 'package picket.authz\n\nallow if magic(1)\n' },
      'policy_type',
      'p.rego',
      3,
      'magic',
    ],
    [
      'an unsafe variable',
      { 'p.rego': 'package picket.authz\n\nallow if x > 1\n' },
      'policy_type',
      'p.rego',
      3,
      'unsafe',
    ],
    [
      'an import that is not used',
      { 'p.rego': GOOD.replace('authz\n', 'authz\n\nimport data.a\n') },
      'policy_type',
      'p.rego',
      3,
      'unused',
    ],
    [
      'recursion',
      { 'p.rego': 'package picket.authz\n\nallow if allow\n' },
      'policy_type',
      'p.rego',
      3,
      'recursive',
    ],
    [
      'a package that nobody asks',
      { 'p.rego': 'package mine\n\nallow := true\n' },
      'policy_no_entrypoint',
      '',
      0,
      'picket.authz or envoy.authz',
    ],
    ['data that is not JSON', { 'p.rego': GOOD, 'data.json': '{"a":' }, 'policy_syntax', '', 0, 'data.json'],
    [
      'http.send',
      { 'p.rego': 'package picket.authz\n\nallow if http.send({"url": "x", "method": "get"}).body\n' },
      'policy_forbidden_builtin',
      'p.rego',
      3,
      'http.send',
    ],
    [
      'opa.runtime',
      { 'p.rego': 'package picket.authz\n\nallow if opa.runtime().env.SECRET\n' },
      'policy_forbidden_builtin',
      'p.rego',
      3,
      'opa.runtime',
    ],
    [
      'net.lookup_ip_addr',
      { 'p.rego': 'package picket.authz\n\nallow if net.lookup_ip_addr("x")\n' },
      'policy_forbidden_builtin',
      'p.rego',
      3,
      'net.lookup_ip_addr',
    ],
    [
      'a builtin that the engine lacks',
      { 'p.rego': 'package picket.authz\n\nallow if yaml.is_valid(input.request.method)\n' },
      'policy_forbidden_builtin',
      'p.rego',
      3,
      'yaml.is_valid',
    ],
    [
      'a failing test',
      {
        'p.rego': GOOD,
        'p_test.rego':
          'package picket.authz_test\n\nimport data.picket.authz\n\ntest_post if authz.allow with input as {"request": {"method": "POST"}}\n',
      },
      'policy_test_failed',
      'p_test.rego',
      5,
      'test_post',
    ],
  ];

  test.each(refused)(
    'refuses %s with file, line and reason',
    async (_what, files, reason, file, line, text) => {
      const refusal = await refusalOf(files);
      expect(refusal?.reason).toBe(reason);
      expect(refusal?.faults[0]).toMatchObject({ file, line });
      expect(refusal?.faults[0]?.message).toContain(text);
    },
  );

  test('refuses a remote schema in an annotation without fetching it', async () => {
    let asked = 0;
    const server = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: () => (asked++, new Response('{}')) });
    const rego = `# METADATA\n# scope: rule\n# schemas:\n#   - input.request: {"$ref": "http://127.0.0.1:${server.port}/schema.json"}\nallow if input.request.method == "GET"\n`;
    const refusal = await refusalOf({ 'p.rego': `package picket.authz\n\n${rego}` });
    await server.stop(true);
    expect(asked).toBe(0);
    expect(refusal?.reason).toBe('policy_type');
  });

  test.each([
    ['never ends', 'some a in numbers.range(1, 9000)\n\tsome b in numbers.range(1, 9000)\n\ta * b == 0'],
    ['takes all memory', 'count({x | some x in numbers.range(1, 100000000)}) == 0'],
  ])(
    'refuses a policy whose own test %s, and goes on',
    async (_what, body) => {
      const rego = `package picket.authz_test\n\ntest_bad if {\n\t${body}\n}\n`;
      const refusal = await refusalOf({ 'p.rego': GOOD, 'p_test.rego': rego });
      expect(refusal?.reason).toBe('policy_test_failed');
      expect(refusal?.faults[0]).toMatchObject({ file: 'p_test.rego', line: 3 });
      expect(await refusalOf({ 'p.rego': GOOD })).toBeUndefined();
    },
    30_000,
  );

  test('compiles no builtin that the engine does not answer', async () => {
    const listed = Bun.spawnSync(['opa', 'capabilities', '--current']);
    const known = (
      JSON.parse(listed.stdout.toString()) as {
        builtins: {
          name: string;
          infix?: string;
          relation?: boolean;
          deprecated?: boolean;
          decl: { args?: unknown[] };
        }[];
      }
    ).builtins;
    const calls = known
      .filter(
        ({ name, infix, relation, deprecated }) =>
          SUPPORTED_BUILTINS.has(name) && !infix && !relation && !deprecated,
      )
      .filter(({ name }) => !/^(internal\.|rego\.|print$|walk$|assign$|eq$)/.test(name));
    const lines = calls.map(({ name, decl }, i) => {
      const args = (decl.args ?? []).map((_, j) => `input.parsed_query[a${j}]`);
      const binds = args.map((_, j) => `some a${j}; `);
      return `allow if { ${binds.join('')}x${i} := ${name}(${args.map((a) => `json.unmarshal(${a}[0])`).join(', ')}); x${i} != 1 }`;
    });
    expect(calls.length).toBeGreaterThan(90);
    const compiled = await compiler.compile(
      { 'p.rego': `package picket.authz\n\n${lines.join('\n')}\n` },
      'mesh',
    );
    expect((await createOpaWasmLoader().load(compiled.artifact)).entrypoints).toContain('picket/authz/allow');
  });

  test('leaves nothing behind', () => {
    expect(readdirSync(temporaryFolder)).toEqual([]);
  });
});

describe('OpaCompiler.explain()', () => {
  test('names the rules that fired and no default value, at the time that it is given', async () => {
    const rego =
      'package picket.authz\n\ndefault allow := false\n\nallow if {\n\tis_get\n\tis_late\n}\n\nis_get if input.request.method == "GET"\n\nis_late if time.now_ns() > 5000000\n';
    const input = { request: { method: 'GET' } };
    const explain = async (nowMs: number): Promise<readonly string[]> => {
      const rules = await compiler.explain(
        { 'a/p.rego': rego },
        { entrypoint: 'picket/authz/allow', input, nowMs },
      );
      return rules.map(({ rule, file, line }) => `${rule} ${file}:${line}`);
    };
    expect(await explain(6)).toEqual([
      'data.picket.authz.is_get a/p.rego:10',
      'data.picket.authz.is_late a/p.rego:12',
      'data.picket.authz.allow a/p.rego:5',
    ]);
    expect(await explain(5)).toEqual(['data.picket.authz.is_get a/p.rego:10']);
  });
});

describe('OpaCompiler', () => {
  test('says that the compiler is missing', async () => {
    const missing = new OpaCompiler({ executable: '/nonexistent/opa', temporaryFolder });
    expect(await missing.compile({ 'p.rego': GOOD }, 'mesh').catch((error: unknown) => error)).toMatchObject({
      code: 'unavailable',
      reason: 'policy_compiler_unavailable',
    });
  });
});
