import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, chownSync, copyFileSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { asUser } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { inUserNamespace } from '../../kit/user-namespace.ts';
import { waitUntil } from '../../kit/wait.ts';

/** Processes that want others' keys of the Workload API. */

setDefaultTimeout(60_000);

const { web, nobody } = SHOP_USERS;
/** A user of `desk` who is /web only while the program is Python. */
const PYTHON_USER = 7020;
const PYTHON = realpathSync('/usr/bin/python3');
const TRICKS = ['users.py', 'workload-tricks.py']
  .map((name) => readFileSync(join(import.meta.dirname, 'programs', name), 'utf8'))
  .join('\n');
const WEB = 'asked spiffe://example.org/web';
let shop: Shop;
/** Python at another path, and a program that runs as /web whoever starts it. */
let otherPython: string;
let setuid: string;

beforeAll(async () => {
  shop = await Shop.open();
  [otherPython, setuid] = [join(shop.folder, 'other-python'), join(shop.folder, 'setuid-sleep')];
  copyFileSync(PYTHON, otherPython);
  copyFileSync('/bin/sleep', setuid);
  chownSync(setuid, web, web);
  chmodSync(setuid, 0o4755);
  const selectors = [`unix:uid:${PYTHON_USER}`, `unix:path:${PYTHON}`];
  await shop.mesh.register({ path: '/web', on: shop.desk, selectors });
  const isKnown = async (): Promise<boolean> => (await ask('honest', { owner: PYTHON_USER })).startsWith(WEB);
  await waitUntil('the program is known', isKnown);
}, 120_000);
afterAll(async () => await shop.close());

interface Trick {
  readonly owner: number;
  readonly other?: number;
  readonly program?: readonly string[];
  /** What starts Python, and which. */
  readonly by?: readonly string[];
}

/** What one of the modes of workload-tricks.py was given. In those that are not `late` the agent stands still until the connection is where it is to be. */
async function ask(
  mode: string,
  { owner, other = nobody, program = [], by = [PYTHON] }: Trick,
): Promise<string> {
  const isLate = mode.endsWith('-late');
  const args = [mode, shop.desk.workloadApi, String(owner), String(other), ...program];
  if (!isLate) process.kill(shop.desk.pid, 'SIGSTOP');
  const child = Bun.spawn(shop.desk.host.in(...by, '-c', TRICKS, ...args), {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'inherit',
    cwd: '/',
    timeout: 30_000,
    killSignal: 'SIGKILL',
  });
  let printed = '';
  const decoder = new TextDecoder();
  try {
    for await (const chunk of child.stdout) {
      printed += decoder.decode(chunk, { stream: true });
      if (printed.includes('ready\n')) process.kill(shop.desk.pid, 'SIGCONT');
      if (/asked .*\n/.test(printed)) break;
    }
  } finally {
    process.kill(shop.desk.pid, 'SIGCONT');
    child.kill('SIGKILL');
  }
  expect(printed).toStartWith('ready\n');
  return printed.slice('ready\n'.length).trim();
}

describe('the Workload API gives', () => {
  test('a process its identity: what is refused below is refused for its own reason', async () => {
    for (const owner of [web, PYTHON_USER]) expect(await ask('honest', { owner })).toStartWith(WEB);
    expect(await ask('honest', { owner: nobody })).toBe('asked nothing');
  });

  for (const late of ['', '-late']) {
    const when = late === '' ? 'before the agent saw it' : 'after the agent saw it';
    const name = (what: string): string => `nothing on a connection ${what} ${when}`;

    test(name('whose process became a setuid program of a workload'), async () => {
      const program = [setuid, '10'];
      expect(await ask(`exec${late}`, { owner: nobody, program })).toBe('asked nothing');
    });

    test(name('whose process ended, which gave it to another user'), async () => {
      expect(await ask(`ended${late}`, { owner: web })).toBe('asked nothing');
    });

    test(name('whose process ended and whose number is a workload’s now'), async () => {
      expect(await ask(`reused${late}`, { owner: web })).toBe('asked nothing');
    });
  }

  test('nothing on a connection whose process became the program of a workload after the agent saw it', async () => {
    const program = [PYTHON, '-c', 'import time; time.sleep(10)'];
    const by = [...asUser(PYTHON_USER), otherPython];
    const trick = { owner: PYTHON_USER, other: PYTHON_USER, program, by };
    expect(await ask('honest', { owner: PYTHON_USER, by })).toBe('asked nothing');
    expect(await ask('exec-late', trick)).toBe('asked nothing');
  });

  test('nothing to a program in a user namespace of its own that is entitled by its path', async () => {
    const by = (uid: number): readonly string[] => inUserNamespace({ uid }, PYTHON);
    expect(await ask('honest', { owner: PYTHON_USER, by: by(PYTHON_USER) })).toBe('asked nothing');
    // By its user alone it may be in one.
    expect(await ask('honest', { owner: web, by: by(web) })).toStartWith(WEB);
  });

  test('nothing to another program at that path in a mount namespace of its own', async () => {
    const mounts = `mount --bind ${otherPython} ${PYTHON} && exec "$@"`;
    const by = ['unshare', '--mount', 'bash', '-c', mounts, 'bash', ...asUser(PYTHON_USER), PYTHON];
    expect(await ask('honest', { owner: PYTHON_USER, by })).toBe('asked nothing');
  });
});
