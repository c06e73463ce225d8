import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { requireRoot } from '../../tests/kit/netns.ts';
import { inUserNamespace } from '../../tests/kit/user-namespace.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { describeWorkloadAttestor } from './contract.ts';
import { isAsleepIn } from './fixtures/asleep-in.ts';
import { readProcessFacts } from './process-facts.ts';
import { UnixAttestor, type UnixAttestorOptions } from './unix.ts';

let folder = '';
const lines: string[] = [];
const log = createLog({ level: 'info', nowMs: () => 0, write: (line) => lines.push(line) });
const children: Bun.Subprocess[] = [];

beforeAll(() => {
  requireRoot('processes of other users');
  folder = mkdtempSync(join(tmpdir(), 'picket-unix-'));
  chmodSync(folder, 0o755);
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  lines.length = 0;
});

function attestorWith(options: Partial<UnixAttestorOptions> = {}): UnixAttestor {
  return new UnixAttestor({ log, clock: systemClock, isDigestWanted: () => true, ...options });
}

describeWorkloadAttestor('unix', async () => {
  const child = Bun.spawn(['sleep', '60']);
  const facts = await waitUntil('it runs', () => {
    return isAsleepIn(child.pid, '/sleep') && readProcessFacts(child.pid);
  });
  const end = async (): Promise<void> => {
    child.kill('SIGKILL');
    await child.exited;
  };
  return { attestor: attestorWith(), process: facts, end };
});

describe('UnixAttestor.attest()', () => {
  test('names the effective user and group, supplementary groups, the program and its digest', async () => {
    const passwdFile = join(folder, 'passwd');
    const groupFile = join(folder, 'group');
    writeFileSync(passwdFile, 'alice:x:4242:4243::/:\n');
    writeFileSync(groupFile, 'alices:x:4243:\nreaders:x:4244:\n');
    const program = copyOfSleep('named');
    const pid = await start(
      ['setpriv', '--reuid=4242', '--regid=4243', '--groups=4244,4245', program, '60'],
      program,
    );
    expect(await selectorsOf(pid, attestorWith({ passwdFile, groupFile }))).toEqual([
      'unix:uid:4242',
      'unix:user:alice',
      'unix:gid:4243',
      'unix:group:alices',
      'unix:supplementary_gid:4244',
      'unix:supplementary_group:readers',
      'unix:supplementary_gid:4245',
      `unix:path:${program}`,
      `unix:sha256:${createHash('sha256').update(readFileSync(program)).digest('hex')}`,
    ]);
  });

  test('goes by the effective user where it is not the real one', async () => {
    const pid = await start(
      ['setpriv', '--ruid=4242', '--euid=4243', '--clear-groups', '/bin/sleep', '60'],
      'sleep',
    );
    const selectors = await selectorsOf(pid, attestorWith());
    expect(selectors).toContain('unix:uid:4243');
    expect(selectors).not.toContain('unix:uid:4242');
  });

  test('says no path in another mount namespace, where any file may stand at any path', async () => {
    const program = copyOfSleep('elsewhere');
    const script = `mount --bind /bin/tail ${program} && exec ${program} -f /dev/null`;
    const pid = await start(['unshare', '-m', 'bash', '-c', script], program);
    const selectors = await selectorsOf(pid, attestorWith());
    expect(selectors).toContain('unix:uid:0');
    expect(selectors.filter((selector) => selector.startsWith('unix:path:'))).toEqual([]);
  });

  test('says neither path nor digest in another user namespace, where a process may name any file as its program', async () => {
    const program = copyOfSleep('mapped');
    const pid = await start(inUserNamespace({ uid: 4242 }, program, '60'), program);
    const selectors = await selectorsOf(pid, attestorWith());
    expect(selectors).toContain('unix:uid:4242');
    expect(selectors.filter((selector) => /^unix:(path|sha256):/.test(selector))).toEqual([]);
  });

  test('says no path once another program stands there, and still the digest of the one that runs', async () => {
    const program = copyOfSleep('replaced');
    const digest = createHash('sha256').update(readFileSync(program)).digest('hex');
    const pid = await start([program, '60'], program);
    copyFileSync('/bin/cat', `${program}.new`);
    renameSync(`${program}.new`, program);
    const selectors = await selectorsOf(pid, attestorWith());
    expect(selectors.filter((selector) => selector.startsWith('unix:path:'))).toEqual([]);
    expect(selectors).toContain(`unix:sha256:${digest}`);
  });

  test('does not take a program whose name ends in (deleted) for the one that was', async () => {
    const program = copyOfSleep('gone');
    const pid = await start([program, '60'], program);
    rmSync(program);
    copyFileSync('/bin/cat', `${program} (deleted)`);
    const selectors = await selectorsOf(pid, attestorWith());
    expect(selectors.filter((selector) => selector.startsWith('unix:path:'))).toEqual([]);
  });

  test('hashes nothing that nobody asks for', async () => {
    const pid = await start(['/bin/sleep', '60'], 'sleep');
    const asked: (readonly string[])[] = [];
    const isDigestWanted = (known: readonly string[]): boolean => {
      asked.push(known);
      return false;
    };
    const selectors = await selectorsOf(pid, attestorWith({ isDigestWanted }));
    expect(asked).toEqual([selectors]);
    expect(selectors.filter((selector) => selector.startsWith('unix:sha256:'))).toEqual([]);
    expect(selectors).toContain('unix:uid:0');
  });

  test('hashes no program above the limit, and says so', async () => {
    const program = copyOfSleep('large');
    truncateSync(program, 2 * 1024 * 1024);
    const pid = await start([program, '60'], program);
    const selectors = await selectorsOf(pid, attestorWith({ maxExecutableBytes: 1024 * 1024 }));
    expect(selectors).toContain(`unix:path:${program}`);
    expect(selectors.filter((selector) => selector.startsWith('unix:sha256:'))).toEqual([]);
    expect(lines.join()).toContain('executable_too_large');
  });

  test('remembers a digest only as long as the file is the same', async () => {
    const program = copyOfSleep('patched');
    const attestor = attestorWith();
    const first = await selectorsOf(await start([program, '60'], program), attestor);
    for (const child of children.splice(0)) {
      child.kill('SIGKILL');
      await child.exited;
    }
    const bytes = readFileSync(program);
    // The same file with the same size and other content.
    writeFileSync(program, Buffer.concat([bytes.subarray(0, -1), Buffer.from([0x55])]));
    const second = await selectorsOf(await start([program, '60'], program), attestor);
    const digest = createHash('sha256').update(readFileSync(program)).digest('hex');
    expect(second).toContain(`unix:sha256:${digest}`);
    expect(first).not.toContain(`unix:sha256:${digest}`);
    expect(await selectorsOf(children[0]?.pid ?? 0, attestor)).toEqual(second);
  });

  test('says nothing of a path with a line feed in it', async () => {
    const program = copyOfSleep('line\nfeed');
    const pid = await start([program, '60'], program);
    const selectors = await selectorsOf(pid, attestorWith());
    expect(selectors.filter((selector) => selector.startsWith('unix:path:'))).toEqual([]);
    expect(selectors).toContain('unix:uid:0');
  });
});

function copyOfSleep(name: string): string {
  const path = join(folder, name);
  copyFileSync('/bin/sleep', path);
  chmodSync(path, 0o755);
  return path;
}

/** Starts a program and waits until it runs the executable that it is meant to, and sleeps there. */
async function start(command: readonly string[], program: string): Promise<number> {
  const child = Bun.spawn([...command], { stdin: 'ignore', stdout: 'ignore' });
  children.push(child);
  await waitUntil(`${program} runs`, () => isAsleepIn(child.pid, program));
  return child.pid;
}

async function selectorsOf(pid: number, attestor: UnixAttestor): Promise<readonly string[]> {
  const facts = readProcessFacts(pid);
  if (facts === undefined) throw new Error('The process has ended');
  return await attestor.attest(facts);
}
