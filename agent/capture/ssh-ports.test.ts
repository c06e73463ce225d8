import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child, runOk } from '../../tests/kit/child.ts';
import { freePort } from '../../tests/kit/free-port.ts';
import { findSshPorts, parseListeners } from './ssh-ports.ts';

describe('findSshPorts()', () => {
  let folder: string;
  let child: Child | undefined;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'picket-ssh-'));
  });
  const listenAs = (user: readonly string[], port: number): Child => {
    const program = join(folder, 'sshd');
    copyFileSync('/usr/bin/nc.openbsd', program);
    chmodSync(folder, 0o755);
    return new Child({
      command: ['setpriv', ...user, program, '-l', '-k', '127.0.0.1', String(port)],
      logFile: join(folder, 'log'),
    });
  };
  afterEach(async () => {
    await child?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('finds the port at which a process named sshd listens, wherever that is', async () => {
    const port = freePort();
    child = listenAs(['--'], port);
    await child.ready('it listens', async () => (await findSshPorts(undefined)).includes(port));
  });

  test('does not believe a name that a user gave his program', async () => {
    const port = freePort();
    child = listenAs(['--reuid=7001', '--'], port);
    await child.ready('it listens', async () => (await runOk(['ss', '-Hltn'])).includes(`:${port} `));
    expect(await findSshPorts(undefined)).not.toContain(port);
  });

  test('keeps the port of the session from which it is run', async () => {
    expect(await findSshPorts('192.0.2.1 50000 192.0.2.2 2222')).toContain(2222);
  });

  test('ignores a session that says nothing sensible', async () => {
    expect(await findSshPorts('nonsense')).toEqual(await findSshPorts(undefined));
    expect(await findSshPorts('a b c 99999999')).toEqual(await findSshPorts(undefined));
  });
});

describe('parseListeners()', () => {
  test('passes over lines that are none', () => {
    const line = (local: string, state: string): string =>
      `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 77 1`;
    const text = (...lines: readonly string[]): string => ['  sl  local_address', ...lines, ''].join('\n');
    expect([...parseListeners(text(line('0100007F:0016', '0A')))]).toEqual([['77', 22]]);
    for (const bad of [
      line('0100007F:0016', '01'),
      line('0100007F:zz', '0A'),
      line('0100007F', '0A'),
      '0A',
      '',
    ])
      expect(parseListeners(text(bad)).size).toBe(0);
  });
});
