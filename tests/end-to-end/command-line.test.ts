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

describe('picket', () => {
  test('picket was built', () => {
    expect(existsSync(binary)).toBe(true);
  });

  test('picket version names the version of package.json', async () => {
    const { exitCode, stdout } = await picket('version', '--json');
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ version: manifest.version, bun: '1.4.5' });
  });

  test('picket --help lists every noun, and each command shows an example', async () => {
    const { exitCode, stdout } = await picket('--help');
    expect(exitCode).toBe(0);
    for (const noun of [
      'token',
      'node',
      'entry',
      'policy',
      'workload',
      'audit',
      'operator',
      'completion',
      'version',
    ]) {
      expect(stdout).toContain(`\n  ${noun}`);
    }
    expect((await picket('entry', 'create', '--help')).stdout).toContain(
      'Examples:\n  picket entry create spiffe://',
    );
  });

  test('picket ends with 2 for usage that it does not know', async () => {
    for (const args of [
      ['nonsense'],
      ['entry', 'nonsense'],
      ['entry', 'list', '--nonsense'],
      ['token', 'create'],
      ['token', 'create', 'a', '--ttl', '1y'],
    ]) {
      const { exitCode, stderr } = await picket(...args);
      expect([args, exitCode]).toEqual([args, 2]);
      expect(stderr).toStartWith('error: ');
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

  test('picket completion prints a script that bash accepts and that completes verbs', async () => {
    const { stdout } = await picket('completion', 'bash');
    const probe = `${stdout}\nCOMP_WORDS=(picket policy ro); COMP_CWORD=2; _picket; echo "\${COMPREPLY[*]}"`;
    const completed = await run(['bash', '--norc', '-c', probe]);
    expect(completed).toMatchObject({ exitCode: 0, stdout: 'rollback\n', stderr: '' });
  });
});
