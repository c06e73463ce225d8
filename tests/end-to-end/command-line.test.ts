import { describe, expect, test } from 'bun:test';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import manifest from '../../package.json' with { type: 'json' };
import { run } from '../kit/child.ts';

/** The command line through the compiled binary. */

const binary = process.env['PICKET_BINARY'] ?? join(import.meta.dirname, '../../dist/picket');
const picket = async (...args: string[]) =>
  await run([binary, ...args], { env: { PICKET_SERVER: '', PICKET_SOCKET: '' } });

const helps = new Map<string, string>();

/** The help of a command, asked once. */
async function helpOf(path: readonly string[]): Promise<string> {
  const known = helps.get(path.join(' '));
  if (known !== undefined) return known;
  const { exitCode, stdout } = await picket(...path, '--help');
  expect([path, exitCode]).toEqual([path, 0]);
  helps.set(path.join(' '), stdout);
  return stdout;
}

/** The commands below a path, as its help lists them. */
async function commandsOf(path: readonly string[]): Promise<readonly string[]> {
  const [, list = ''] = (await helpOf(path)).split('\nCommands:\n');
  const names = list.split('\n\n')[0]!.matchAll(/^ {2}(\S+)/gm);
  return Array.from(names, ([, name = '']) => name).filter((name) => name !== 'help');
}

async function findPaths(path: readonly string[]): Promise<readonly (readonly string[])[]> {
  const below: (readonly string[])[] = [];
  for (const name of await commandsOf(path)) below.push(...(await findPaths([...path, name])));
  return [path, ...below];
}

/** The calls that a help shows, each as its words behind `picket`. */
function examplesIn(help: string): readonly (readonly string[])[] {
  const [, text = ''] = help.split('\nExamples:\n');
  const calls = text.replaceAll('\\\n', '').matchAll(/picket ([^)\n]*)/g);
  return Array.from(calls, ([, call = '']) => call.trim().split(/\s+/));
}

/** The options that an example gives to a command that has no such option. */
async function strangeOptions(example: readonly string[]): Promise<readonly string[]> {
  const words = example.filter((word) => !word.startsWith('-'));
  const path = (await findPaths([]))
    .filter((each) => ` ${words.join(' ')} `.includes(` ${each.join(' ')} `))
    .toSorted((a, b) => b.length - a.length)[0]!;
  const help = await helpOf(path);
  return example.filter((word) => word.startsWith('--') && !help.includes(`${word} `));
}

describe('picket', () => {
  test('picket was built', () => {
    expect(existsSync(binary)).toBe(true);
  });

  test('picket version names the version of package.json', async () => {
    const { exitCode, stdout } = await picket('version', '--json');
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ version: manifest.version, bun: '1.4.5' });
    expect((await picket('--version')).stdout.trim()).toBe(manifest.version);
  });

  test('picket --help lists every noun', async () => {
    const nouns = [
      'ca token entry service node policy audit workload agent gateway server operator quarantine enforcement why doctor completion version',
    ];
    expect((await commandsOf([])).toSorted()).toEqual(nouns.flatMap((text) => text.split(' ')).toSorted());
  });

  test('every command shows help with examples, which name only options that there are', async () => {
    const paths = await findPaths([]);
    expect(paths.length).toBeGreaterThan(40);
    for (const path of paths) {
      const examples = examplesIn(await helpOf(path));
      expect([path, examples.length > 0]).toEqual([path, true]);
      for (const example of examples) expect([example, await strangeOptions(example)]).toEqual([example, []]);
    }
  });

  test('picket help explains a command by its whole path, as --help behind it does', async () => {
    for (const path of [['entry'], ['entry', 'create'], ['agent', 'capture', 'apply']]) {
      const { exitCode, stdout } = await picket('help', ...path);
      expect([path, exitCode, stdout]).toEqual([path, 0, await helpOf(path)]);
    }
  });

  test('picket says nothing of it when nobody reads to the end', async () => {
    const script = `set -o pipefail; "$1" agent config-example | :; echo "$?"`;
    for (let turn = 0; turn < 5; turn++) {
      const { stdout, stderr } = await run(['bash', '-c', script, 'bash', binary]);
      expect([stdout, stderr]).toEqual(['0\n', '']);
    }
  });

  test('picket ends with 2 for usage that it does not know', async () => {
    for (const args of [
      ['nonsense'],
      ['entry', 'nonsense'],
      ['entry', 'list', '--nonsense'],
      ['token', 'create'],
      ['token', 'create', 'a', '--ttl', '1y'],
      ['policy', 'rollback', 'first'],
      ['policy', 'list', '--target', 'mash'],
      ['policy', 'publish', '.', '--rego-version', '2'],
      ['audit', 'access', '--decision', 'maybe'],
      ['service', 'set', 'shop', '--spiffe-id', 'x', '--port', 'http', '--address', '10.96.0.10:80'],
    ]) {
      const { exitCode, stderr } = await picket(...args);
      expect([args, exitCode]).toEqual([args, 2]);
      expect(stderr).toStartWith('error: ');
      const asJson = await picket(...args, '--json');
      expect([args, asJson.exitCode, asJson.stdout]).toEqual([args, 2, '']);
      const { error } = JSON.parse(asJson.stderr) as { error: Record<string, unknown> };
      expect(error).toMatchObject({ code: 'invalid_argument', reason: 'usage' });
      expect(stderr).toContain(`error: ${String(error['message'])}`);
    }
    expect(JSON.parse((await picket('entry', '--json')).stderr)).toMatchObject({
      error: { reason: 'usage', message: 'A command is missing: see --help' },
    });
  });

  test('picket policy evaluate refuses options that would mean nothing', async () => {
    for (const [option, needed] of [
      ['--path /x', '--method'],
      ['--header a:b', '--method'],
      ['--tls', '--domain'],
      ['--user-issuer corp', '--user'],
    ] as const) {
      const { exitCode, stderr } = await picket('policy', 'evaluate', ...option.split(' '));
      expect([exitCode, stderr]).toEqual([
        2,
        `error: ${option.split(' ')[0]} means nothing without ${needed}\n`,
      ]);
    }
  });

  test('picket ends with 6 when the server cannot be reached, and says where it looked', async () => {
    const { exitCode, stderr } = await picket('--socket', '/nonexistent/server.sock', 'node', 'list');
    expect(exitCode).toBe(6);
    expect(stderr).toContain('/nonexistent/server.sock');
    const asJson = await picket('--socket', '/nonexistent/server.sock', 'node', 'list', '--json');
    expect(JSON.parse(asJson.stderr)).toMatchObject({
      error: { code: 'unavailable', reason: 'server_unreachable' },
    });
    expect(asJson.stdout).toBe('');
  });

  test('picket refuses contradictory or incomplete ways to the server', async () => {
    const both = await picket('--server', 'https://127.0.0.1:1', '--socket', '/x', 'node', 'list');
    expect([both.exitCode, both.stderr]).toEqual([2, 'error: Give --server or --socket, not both\n']);
    const bare = await picket('--server', 'https://127.0.0.1:1', 'node', 'list');
    expect(bare.exitCode).toBe(2);
    expect(bare.stderr).toContain('--cert, --key and --ca');
  });

  test('picket server config-example is JSON with --json, as every result', async () => {
    const { stdout } = await picket('server', 'config-example');
    const asJson = await picket('server', 'config-example', '--json');
    expect(JSON.parse(asJson.stdout)).toEqual({ example: stdout });
  });

  test('picket server takes its settings from where PICKET_SERVER_CONFIG says, as the doctor does', async () => {
    const env = { PICKET_SERVER_CONFIG: '/nonexistent/server.yaml' };
    const { exitCode, stderr } = await run([binary, 'server', 'check-config'], { env });
    expect([exitCode, stderr]).toEqual([2, 'error: Cannot read /nonexistent/server.yaml\n']);
  });

  test('picket server backup says what is wrong with the file before it asks the server', async () => {
    const there = await picket('server', 'backup', binary);
    expect([there.exitCode, there.stderr]).toEqual([
      5,
      `error: ${binary} is there already: name another file\n`,
    ]);
    const nowhere = await picket('server', 'backup', '/nonexistent/backup.ndjson');
    expect(nowhere.exitCode).toBe(2);
    expect(nowhere.stderr).toContain('is the folder there');
  });

  test('picket server backup leaves no file behind when there is no server', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'picket-cli-'));
    try {
      const file = join(folder, 'backup.ndjson');
      const backup = await picket('--socket', '/nonexistent/server.sock', 'server', 'backup', file);
      expect([backup.exitCode, existsSync(file)]).toEqual([6, false]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('the help shows durations as they are written', async () => {
    for (const [command, fallback] of [
      ['ca init', '365d'],
      ['token create', '10m'],
      ['operator create', '30d'],
      ['enforcement report', '24h'],
    ] as const)
      expect(await helpOf(command.split(' '))).toContain(`(default: ${fallback})`);
  });

  test('picket policy publish refuses what it should not read before it asks the server', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'picket-cli-'));
    try {
      expect((await picket('policy', 'publish', join(folder, 'absent'))).exitCode).toBe(4);
      writeFileSync(join(folder, 'readme.txt'), 'nothing');
      expect((await picket('policy', 'publish', folder)).stderr).toContain('holds no .rego file');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
