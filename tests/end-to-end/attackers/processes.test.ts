import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { run, runOk } from '../../kit/child.ts';
import { asUser, curl } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { inUserNamespace } from '../../kit/user-namespace.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';

/** Processes that want to be taken for others: nothing that they send reaches nginx. */

setDefaultTimeout(60_000);

const { web, nobody } = SHOP_USERS;
/** A user of `desk` who is /web only while the program is Python. */
const PYTHON_USER = 7020;
/** Other users can read neither the checkout nor what a version manager installed. */
const PYTHON = realpathSync('/usr/bin/python3');
const TRICKS = ['users.py', 'socket-tricks.py']
  .map((name) => readFileSync(join(import.meta.dirname, 'programs', name), 'utf8'))
  .join('\n');
/** Bash that asks for $1 at $2 and prints the first line of the answer, all by itself. */
const BASH_REQUEST =
  'exec 3<>/dev/tcp/$2/80; printf "GET $1 HTTP/1.1\\r\\nHost: shop\\r\\nConnection: close\\r\\n\\r\\n" >&3; IFS= read -r -t 8 -u 3 line; echo "$line"';
/** Python that asks for its second argument at its first. */
const PYTHON_REQUEST =
  'import http.client, sys; c = http.client.HTTPConnection(sys.argv[1], timeout=8); c.request("GET", sys.argv[2]); print("HTTP/1.1", c.getresponse().status)';
interface Attempt {
  readonly answer: string;
  /** Whether nginx saw the request. */
  readonly isServed: boolean;
}

describe.each(['nftables', 'ebpf'] as const)('with capture by %s,', (backend) => {
  let shop: Shop;
  let asked = 0;
  let lastTold = '';

  beforeAll(async () => {
    shop = await Shop.open({ backend });
    const selectors = [`unix:uid:${PYTHON_USER}`, `unix:path:${PYTHON}`];
    await shop.mesh.register({ path: '/web', on: shop.desk, selectors });
    await waitUntil('the program is known', async () => (await askAs('honest', PYTHON_USER)).isServed);
    lastTold = await newestDenial();
  }, 120_000);
  afterAll(async () => await shop.close());

  const newestDenial = async (): Promise<string> => await shop.desk.picketOk('why', '--last', '1', '--json');
  const nextPath = (): string => `/invoices?attempt-${++asked}`;

  async function hasServed(path: string): Promise<boolean> {
    return (await shop.readNginxLog()).some((line) => line.includes(`${path} `));
  }

  /**
   * One of the modes of socket-tricks.py. While it puts its sockets in place the agent stands still, so that it looks at them only then: what an attacker
   * gets by winning every race.
   */
  async function askAs(mode: string, owner: number, other = nobody): Promise<Attempt> {
    const path = nextPath();
    const args = [mode, shop.store.host.ipv4, '80', String(owner), String(other), path];
    process.kill(shop.desk.pid, 'SIGSTOP');
    const child = Bun.spawn(shop.desk.host.in(PYTHON, '-c', TRICKS, ...args), {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'inherit',
      cwd: '/',
      timeout: 20_000,
      killSignal: 'SIGKILL',
    });
    let printed = '';
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      const wasReady = printed.includes('ready\n');
      printed += decoder.decode(chunk, { stream: true });
      if (!wasReady && printed.includes('ready\n')) process.kill(shop.desk.pid, 'SIGCONT');
    }
    process.kill(shop.desk.pid, 'SIGCONT');
    await child.exited;
    expect(printed).toStartWith('ready\n');
    return { answer: printed.slice('ready\n'.length), isServed: await hasServed(path) };
  }

  /** Bash's request, behind `prefix`. */
  async function askByBash(prefix: readonly string[], program = 'bash'): Promise<Attempt> {
    const path = nextPath();
    const command = [...prefix, program, '-c', BASH_REQUEST, 'bash', path, shop.store.host.ipv4];
    const { stdout } = await run(shop.desk.host.in(...command), { cwd: '/' });
    return { answer: stdout, isServed: await hasServed(path) };
  }

  /** Nginx did not see it, and the newest denial says why. */
  async function expectUnidentified(attempt: Attempt, why: string): Promise<void> {
    expect(attempt.isServed).toBe(false);
    expect(attempt.answer).not.toContain('HTTP/1.1 200');
    const told = await waitUntil('the denial is noted', async () => {
      const newest = await newestDenial();
      return newest !== lastTold && newest;
    });
    lastTold = told;
    expect(told).toContain('caller_unidentified');
    expect(told).toContain(why);
  }

  describe('a connection', () => {
    test('of a process that stays what it is passes, however late it is looked at', async () => {
      for (const owner of [web, PYTHON_USER]) {
        const { answer, isServed } = await askAs('honest', owner);
        expect(isServed).toBe(true);
        expect(answer).toContain('HTTP/1.1 200');
      }
    });

    test('is without identity once the process has become another program', async () => {
      await expectUnidentified(await askAs('exec', PYTHON_USER), 'no registration entry matches the process');
    });

    test('is without identity when the process has ended, though its number is a workload’s now', async () => {
      const refused = (): number =>
        eventsOf(shop.desk.log(), 'own_listener_refused')
          .map((line) => (JSON.parse(line) as { readonly refused: number }).refused)
          .reduce((sum, each) => sum + each, 0);
      const before = refused();
      const attempt = await askAs('vanish', web);
      if (backend === 'nftables')
        return await expectUnidentified(attempt, 'no process holds the connection any more');
      // The record has gone with the socket: nobody knows where it was going.
      expect([attempt.answer.includes('HTTP/1.1 200'), attempt.isServed]).toEqual([false, false]);
      await waitUntil('it is refused', () => refused() > before);
    });

    test('is without identity when it was passed to another user', async () => {
      await expectUnidentified(
        await askAs('passed-away', web),
        'several processes hold the connection, and they differ',
      );
    });

    test('is without identity while its maker holds it beside another user', async () => {
      await expectUnidentified(
        await askAs('passed-and-kept', web),
        'several processes hold the connection, and they differ',
      );
    });

    test('is without identity when a workload holds what another user made', async () => {
      await expectUnidentified(
        await askAs('borrowed', web),
        'several processes hold the connection, and they differ',
      );
    });

    test('is without identity when another user’s process inherited it', async () => {
      await expectUnidentified(
        await askAs('inherited', web),
        'several processes hold the connection, and they differ',
      );
    });
  });

  describe('a process', () => {
    const asPythonUser = asUser(PYTHON_USER);

    test('does not become a program by a bind mount over the path of that program', async () => {
      const mounts = `mount --bind /bin/bash ${PYTHON} && exec "$@"`;
      const inOwnMounts = ['unshare', '--mount', 'bash', '-c', mounts, 'bash', ...asPythonUser];
      await expectUnidentified(
        await askByBash(inOwnMounts, PYTHON),
        'no registration entry matches the process',
      );
    });

    test('does not keep its program’s path in a user namespace of its own, where it could name any file as its program', async () => {
      const request = [PYTHON, '-c', PYTHON_REQUEST];
      const asked = async (command: readonly string[]): Promise<Attempt> => {
        const path = nextPath();
        const { stdout } = await run(shop.desk.host.in(...command, shop.store.host.ipv4, path), { cwd: '/' });
        return { answer: stdout, isServed: await hasServed(path) };
      };
      expect((await asked([...asPythonUser, ...request])).isServed).toBe(true);
      await expectUnidentified(
        await asked(inUserNamespace({ uid: PYTHON_USER }, ...request)),
        'no registration entry matches the process',
      );
    });

    test('does not become a program by its name', async () => {
      await expectUnidentified(
        await askByBash([...asPythonUser, 'bash', '-c', `exec -a ${PYTHON} "$@"`, 'x']),
        'no registration entry matches the process',
      );
    });

    test('does not become a user by calling itself so in a user namespace', async () => {
      expect((await askByBash(asUser(web))).isServed).toBe(true);
      await expectUnidentified(
        await askByBash(inUserNamespace({ uid: nobody, inside: web })),
        'no registration entry matches the process',
      );
    });
  });

  describe('a container', () => {
    const name = `pk${process.pid}c`;
    afterAll(async () => void (await run(['ip', 'netns', 'del', name])));

    test('whose network the agent does not see reaches no application, not even as the host’s own address', async () => {
      await runOk(['ip', 'netns', 'add', name]);
      const { host } = shop.desk;
      const veth = `link add ctr type veth peer name eth0 netns ${name}\naddr add 10.99.0.1/24 dev ctr\nlink set ctr up\n`;
      await runOk(['ip', '-n', host.name, '-batch', '-'], { stdin: veth });
      const inside = 'addr add 10.99.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.99.0.1\n';
      await runOk(['ip', '-n', name, '-batch', '-'], { stdin: inside });
      await host.runOk('sysctl', '-qw', 'net.ipv4.ip_forward=1');
      const masquerade =
        'table ip containers { chain out { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }; }';
      await runOk(host.in('nft', '-f', '-'), { stdin: masquerade });
      const container = { ...host, in: (...command: string[]) => ['ip', 'netns', 'exec', name, ...command] };
      const addresses = [shop.store.host.ipv4, `${shop.store.host.ipv4}:15006`, '10.99.0.1:15001'];
      for (const address of addresses) {
        const path = nextPath();
        const { status } = await curl(container, {
          uid: web,
          args: [`http://${address}${path}`, '--max-time', '3'],
        });
        expect([0, 403]).toContain(status);
        expect(await hasServed(path)).toBe(false);
      }
      // What the container sent through the host was seen and dropped: what stops it is no broken network.
      const ruleset = await host.runOk('nft', 'list', 'ruleset');
      expect(Number(/guard_forward[^}]*counter packets (\d+)/.exec(ruleset)?.[1])).toBeGreaterThan(0);
    });
  });
});
