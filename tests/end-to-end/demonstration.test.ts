import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child, runOk } from '../kit/child.ts';
import { waitUntil } from '../kit/wait.ts';

/** What the README promises of `./scripts/demo`: it works twice, and leaves nothing behind, however it ends. */

setDefaultTimeout(240_000);

const PROJECT = join(import.meta.dirname, '../..');

/** What a run of the demonstration could leave on the machine, by what tells it from other programs' things: other tests run beside it. */
async function findLeftovers(pid: number): Promise<readonly string[]> {
  // As createTestNetwork names them.
  const own = `pk${pid}n`;
  const namespaces = (await runOk(['ip', 'netns', 'list']))
    .split('\n')
    .filter((name) => name.startsWith(own));
  const links = (await runOk(['ip', '-o', 'link'])).split('\n').filter((link) => link.includes(own));
  const rules = (await runOk(['nft', 'list', 'tables']))
    .split('\n')
    .filter((table) => table.includes('picket'));
  const files = readdirSync(tmpdir()).filter((name) => name.startsWith('picket-demo-'));
  return [...namespaces, ...links, ...rules, ...files, ...findProcesses()];
}

/** Command lines that name a folder of the demonstration. */
function findProcesses(): readonly string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => commandLineOf(pid))
    .filter((command) => command.includes('picket-demo-'));
}

function commandLineOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
  } catch {
    // It has ended since.
    return '';
  }
}

/** The demonstration as the leader of a process group, as a shell starts it. */
function startDemonstration(folder: string, name: string, ...options: readonly string[]): Child {
  return new Child({
    command: ['setsid', join(PROJECT, 'scripts/demo'), ...options],
    logFile: join(folder, `${name}.log`),
    cwd: PROJECT,
    isTypedTo: true,
  });
}

/** What it says at its end that one may try in another terminal. */
function suggestionsIn(log: string): readonly string[] {
  const [, text = ''] = log.split(
    'Everything stays up until you press Enter. In another terminal, as root, try:\n',
  );
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.trim());
}

describe('scripts/demo', () => {
  const folder = mkdtempSync(join(tmpdir(), 'picket-demonstration-'));

  test('leaves nothing behind when Ctrl-C ends it in the middle', async () => {
    const demo = startDemonstration(folder, 'interrupted');
    await demo.ready('both hosts are attested', () => demo.log().includes('curl'), 120_000);
    expect(findProcesses()).not.toEqual([]);
    // Ctrl-C reaches every program of the terminal's foreground, not the demonstration alone.
    process.kill(-demo.pid, 'SIGINT');
    await waitUntil('it has ended', () => !demo.isRunning, 60_000);
    expect(await findLeftovers(demo.pid)).toEqual([]);
  });

  test('claims nothing that does not hold, after that interruption too; what it suggests to try works, and Enter leaves nothing behind', async () => {
    const demo = startDemonstration(folder, 'whole', '--stay');
    await demo.ready(
      'it has come to its end',
      () => demo.log().endsWith('picket agent capture show\n'),
      200_000,
    );
    expect(demo.log()).toContain('Everything came out as claimed.');
    const suggestions = suggestionsIn(demo.log());
    expect(suggestions.length).toBeGreaterThan(4);
    const tried = await runOk(['bash', '-xe', '-c', suggestions.join('\n')], { cwd: PROJECT });
    for (const shown of ['HTTP/1.1 200 OK', '/tpm/desk', 'table inet picket', 'allow'])
      expect(tried).toContain(shown);
    demo.type('\n');
    await waitUntil('it has ended', () => !demo.isRunning, 60_000);
    expect(await demo.stop()).toBe(0);
    expect(await findLeftovers(demo.pid)).toEqual([]);
    rmSync(folder, { recursive: true });
  });
});
