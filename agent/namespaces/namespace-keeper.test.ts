import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { chmod, chown, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { PicketError } from '../../shared/errors/errors.ts';
import { runOk, run } from '../../tests/kit/child.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { requireRoot } from '../../tests/kit/netns.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';
import { HostNamespaces } from './host-namespaces.ts';
import { NamespaceKeeper } from './namespace-keeper.ts';
import type { CapturedNamespace } from './namespace-place.ts';
import type { NamespaceSettings } from './namespace-source.ts';
import { Namespaces } from './namespaces.ts';

const NAME = `pk${process.pid}keeper`;
const ADDRESS = '10.8.0.2';
const STATUS: CapturedNamespace['status'] = {
  backend: 'nftables',
  isIntact: true,
  repairs: 0,
  isWatched: true,
  isContested: false,
  transparentPorts: { steered: [], leftAlone: [] },
};

const add = async (name = NAME): Promise<string> => await runOk(['ip', 'netns', 'add', name]);
const remove = async (name = NAME): Promise<string> => await runOk(['ip', 'netns', 'del', name]);

let clock: FakeClock;
let namespaces: Namespaces;
let keeper: NamespaceKeeper;
/** What was captured and not stopped again. */
let captured: NetworkNamespace[];
/** What became of their rules. */
let rules: string[];
/** Before that nothing stops. */
let stopped: Promise<void>;
let capture: (namespace: NetworkNamespace) => Promise<CapturedNamespace>;

/** With the one that is named, or with all that are found. */
function open(settings: Partial<NamespaceSettings>): void {
  const source = new HostNamespaces({ named: [], patterns: [], ...settings });
  namespaces = new Namespaces({ source });
  keeper = new NamespaceKeeper({
    source,
    namespaces,
    capture: async (namespace) => await capture(namespace),
    clock,
    log: silentLog,
  });
}

beforeEach(() => {
  requireRoot('network namespaces');
  [clock, captured, rules, stopped] = [new FakeClock(), [], [], Promise.resolve()];
  capture = (namespace) => {
    captured.push(namespace);
    const stop = async (): Promise<void> => {
      await stopped;
      captured.splice(captured.indexOf(namespace), 1);
    };
    const kept = (does: string) => async (): Promise<void> => {
      rules.push(`${namespace.name} ${does}`);
      await Promise.resolve();
    };
    return Promise.resolve({ status: STATUS, stop, letGo: kept('let go'), takeUp: kept('taken up') });
  };
  open({
    named: [{ name: 'pod', label: 'pod', path: `/run/netns/${NAME}`, addresses: [ADDRESS], routedIn: [] }],
  });
});
afterEach(async () => {
  await keeper.stop();
  await run(['ip', 'netns', 'del', NAME]);
});

/** Lets a look take place, and what it starts. */
async function look(): Promise<void> {
  clock.advance(250);
  for (let turn = 0; turn < 20; turn++) await Bun.sleep(0);
}

const state = (): unknown => keeper.status.map(({ name, state }) => `${name} ${state}`);

describe('NamespaceKeeper', () => {
  test('captures what is there at start, and lets it go at the end', async () => {
    await add();
    await keeper.start();
    expect(state()).toEqual(['pod captured']);
    const [namespace] = captured;
    expect(namespaces.findAt(ADDRESS)).toEqual({ kind: 'captured', namespace: namespace! });
    expect(namespaces.findLabel(namespace?.link ?? '')).toBe('pod');
    await keeper.stop();
    expect([captured.length, namespace?.isClosed, namespaces.findLabel(namespace?.link ?? '')]).toEqual([
      0,
      true,
      undefined,
    ]);
    expect(clock.pending).toBe(0);
  });

  test('keeps an address closed until its namespace comes, and after it went', async () => {
    await keeper.start();
    expect([state(), namespaces.findAt(ADDRESS)]).toEqual([['pod absent'], { kind: 'closed' }]);
    await add();
    await look();
    expect(state()).toEqual(['pod captured']);
    await remove();
    await look();
    expect([state(), namespaces.findAt(ADDRESS)]).toEqual([['pod absent'], { kind: 'closed' }]);
    expect(captured).toEqual([]);
  });

  test('takes another namespace of the same name for another one, also when it saw nothing in between', async () => {
    await add();
    await keeper.start();
    const [first] = captured;
    let changes = 0;
    namespaces.watch(() => changes++);
    await remove();
    await add();
    await look();
    const [second] = captured;
    expect([captured.length, first?.isClosed, first === second, changes]).toEqual([1, true, false, 1]);
    expect(first?.cookie).not.toBe(second?.cookie);
    expect(state()).toEqual(['pod captured']);
  });

  test('captures none while another process writes the rules, lets go what goes, and takes up what is there', async () => {
    await add();
    await keeper.start();
    await keeper.letGo();
    expect([rules, captured.length, state()]).toEqual([['pod let go'], 1, ['pod captured']]);
    await remove();
    await add();
    await look();
    expect([captured.length, state(), namespaces.findAt(ADDRESS)]).toEqual([
      0,
      ['pod absent'],
      { kind: 'closed' },
    ]);
    await keeper.takeUp();
    expect([captured.length, state()]).toEqual([1, ['pod captured']]);
    await keeper.letGo();
    await keeper.takeUp();
    expect(rules).toEqual(['pod let go', 'pod let go', 'pod taken up']);
  });

  test('listens in what is captured once it may, and in others as they come; where it cannot, nothing is captured', async () => {
    const listening: string[] = [];
    let isTaken = false;
    await add();
    await keeper.start();
    expect(state()).toEqual(['pod captured']);
    await keeper.listen((namespace) => {
      if (isTaken) throw new PicketError('unavailable', 'listen_failed', 'somebody has the port');
      const at = listening.push(namespace.link) - 1;
      return { isBroken: false, stop: () => void listening.splice(at, 1) };
    });
    expect(listening).toEqual(captured.map(({ link }) => link));
    await remove();
    await look();
    expect(listening).toEqual([]);
    isTaken = true;
    await add();
    await look();
    expect(keeper.status).toMatchObject([{ state: 'failed', why: 'somebody has the port' }]);
    expect([captured.length, namespaces.findAt(ADDRESS)]).toEqual([0, { kind: 'closed' }]);
    isTaken = false;
    for (let looks = 0; looks < 8; looks++) await look();
    expect([listening.length, state()]).toEqual([1, ['pod captured']]);
  });

  test('captures anew where somebody within has ended the socket, later each time that he does so again', async () => {
    await add();
    let isBroken = false;
    let stops = 0;
    await keeper.start();
    await keeper.listen(() => {
      isBroken = false;
      return {
        get isBroken() {
          return isBroken;
        },
        stop: () => void stops++,
      };
    });
    const closedMs: number[] = [];
    for (let times = 0; times < 10; times++) {
      isBroken = true;
      await look();
      const why = 'Somebody within has ended the socket at which the agent listens';
      expect([stops, captured]).toEqual([times + 1, []]);
      expect(keeper.status).toMatchObject([{ state: 'failed', why }]);
      expect(namespaces.findAt(ADDRESS)).toEqual({ kind: 'closed' });
      const atMs = clock.monotonicMs();
      while (captured.length === 0) await look();
      closedMs.push(clock.monotonicMs() - atMs);
    }
    expect(closedMs).toEqual([250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    expect(state()).toEqual(['pod captured']);
  });

  test('waits, before it lets go, for what it is about to capture', async () => {
    await add();
    const works = capture;
    const { promise, resolve } = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    capture = async (namespace) => {
      begun.resolve();
      await promise;
      return await works(namespace);
    };
    const starting = keeper.start();
    await begun.promise;
    let isLetGo = false;
    const letting = keeper.letGo().then(() => (isLetGo = true));
    for (let turn = 0; turn < 20; turn++) await Bun.sleep(0);
    expect(isLetGo).toBe(false);
    resolve();
    await Promise.all([starting, letting]);
    expect([rules, captured.length]).toEqual([['pod let go'], 1]);
  });

  test('tells what cannot be captured, keeps it closed, and tries again, soon at first', async () => {
    await add();
    let tries = 0;
    const works = capture;
    capture = () => {
      tries++;
      return Promise.reject(new PicketError('unavailable', 'listen_failed', 'somebody has the port'));
    };
    await keeper.start();
    expect(keeper.status).toMatchObject([{ state: 'failed', why: 'somebody has the port' }]);
    expect(namespaces.findAt(ADDRESS)).toEqual({ kind: 'closed' });
    const triedAt: number[] = [];
    for (let atMs = 250; atMs <= 6000; atMs += 250) {
      const before = tries;
      await look();
      if (tries > before) triedAt.push(atMs);
    }
    expect(triedAt).toEqual([250, 750, 1750, 3750, 5750]);
    capture = works;
    for (let looks = 0; looks < 8; looks++) await look();
    expect([tries, captured.length, state()]).toEqual([6, 1, ['pod captured']]);
  });

  test('waits, before it is stopped, for what it is about to capture, and lets it go', async () => {
    await add();
    const works = capture;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    capture = async (namespace) => {
      await promise;
      return await works(namespace);
    };
    const starting = keeper.start();
    await Bun.sleep(0);
    let isStopped = false;
    const stopping = keeper.stop().then(() => (isStopped = true));
    for (let turn = 0; turn < 20; turn++) await Bun.sleep(0);
    expect(isStopped).toBe(false);
    resolve(undefined);
    await Promise.all([starting, stopping]);
    expect(captured).toEqual([]);
    expect(namespaces.findAt(ADDRESS)).toEqual({ kind: 'closed' });
  });

  describe('with paths that others may change', () => {
    let folder: string;
    beforeEach(async () => (folder = await mkdtemp(`/run/${NAME}`)));
    afterEach(async () => await rm(folder, { recursive: true }));
    const name = (path: string): void =>
      open({ named: [{ name: 'pod', label: 'pod', path, addresses: [ADDRESS], routedIn: [] }] });

    test('goes on, and keeps closed what a path leads to in circles, until it leads somewhere', async () => {
      const path = `${folder}/pod`;
      name(path);
      await symlink(path, path);
      await keeper.start();
      expect(keeper.status).toMatchObject([
        { state: 'failed', why: `Cannot follow ${path}: it leads in circles` },
      ]);
      await look();
      await add();
      await rm(path);
      await symlink(`/run/netns/${NAME}`, path);
      await look();
      expect(state()).toEqual(['pod captured']);
      await rm(path);
      await symlink(path, path);
      await look();
      expect([state(), captured, namespaces.findAt(ADDRESS)]).toEqual([
        ['pod failed'],
        [],
        { kind: 'closed' },
      ]);
    });

    test('believes nothing that somebody else could have put there, whatever links lead through it', async () => {
      const theirs = `${folder}/theirs`;
      await add();
      await mkdir(theirs);
      await symlink(`/run/netns/${NAME}`, `${theirs}/pod`);
      await symlink(theirs, `${folder}/ours`);
      name(`${folder}/ours/pod`);
      await chown(theirs, 1000, 1000);
      await keeper.start();
      const why = `Cannot believe what is in ${theirs}: others than root may write there`;
      expect(keeper.status).toMatchObject([{ state: 'failed', why }]);
      await chown(theirs, 0, 0);
      await chmod(theirs, 0o1777);
      await look();
      expect(keeper.status).toMatchObject([{ state: 'failed', why }]);
      await chmod(theirs, 0o755);
      await look();
      expect([state(), captured.length]).toEqual([['pod captured'], 1]);
    });

    test('reads no folder of a pattern in which somebody else may make something', async () => {
      const routedIn = [{ family: 'ip', address: '10.8.0.0', prefixBits: 24 }] as const;
      open({ patterns: [{ label: 'pods', folder, pattern: '*', routedIn, most: 2 }] });
      await add();
      await symlink(`/run/netns/${NAME}`, `${folder}/one`);
      await chmod(folder, 0o777);
      await keeper.start();
      expect([state(), captured]).toEqual([['pods/* failed'], []]);
      await chmod(folder, 0o755);
      await look();
      expect([state(), captured.length]).toEqual([['pods/one captured'], 1]);
    });
  });

  describe('with several names for one namespace', () => {
    const routedIn = [{ family: 'ip', address: '10.8.0.0', prefixBits: 24 }] as const;
    const one = `${NAME}-1`;
    const pattern = (label: string, text: string) => ({
      label,
      folder: '/run/netns',
      pattern: text,
      routedIn,
      most: 1,
    });
    const named = (name: string, path: string) => ({ name, label: name, path, addresses: [], routedIn: [] });
    let folder: string;
    beforeEach(async () => (folder = await mkdtemp(`/run/${NAME}`)));
    afterEach(async () => {
      await rm(folder, { recursive: true });
      for (const each of [one, `${NAME}-2`]) await run(['ip', 'netns', 'del', each]);
    });
    const labels = (): readonly unknown[] => captured.map(({ link }) => namespaces.findLabel(link));

    test('captures it once, as what is named first, and tells of the others that are named', async () => {
      await symlink(`/run/netns/${one}`, `${folder}/pay`);
      open({
        named: [named('pay', `${folder}/pay`), named('shop', `/run/netns/${one}`)],
        patterns: [pattern('pods', `${NAME}-*`)],
      });
      await add(one);
      await keeper.start();
      await look();
      expect([state(), labels()]).toEqual([['pay captured', 'shop failed'], ['pay']]);
      expect(keeper.status[1]?.why).toBe(
        `Cannot capture what /run/netns/${one} leads to as shop: it is pay already`,
      );
    });

    test('captures it as what the first of two patterns finds, and leaves the next none of what is too much for that', async () => {
      open({ patterns: [pattern('pay', `${NAME}-?`), pattern('pods', `${NAME}-*`)] });
      await add(one);
      await add(`${NAME}-2`);
      await keeper.start();
      await look();
      expect([state(), labels()]).toEqual([[`pay/${one} captured`], ['pay']]);
      expect(keeper.beyond).toEqual(new Map([['pay', 1]]));
    });

    test('gives it to a name that comes later and goes first, once the other has let it go', async () => {
      open({ named: [named('pay', `${folder}/pay`)], patterns: [pattern('pods', `${NAME}-*`)] });
      await add(one);
      await keeper.start();
      expect(labels()).toEqual(['pods']);
      const { promise, resolve } = Promise.withResolvers<void>();
      stopped = promise;
      await symlink(`/run/netns/${one}`, `${folder}/pay`);
      await look();
      await look();
      expect([state(), captured.length]).toEqual([['pay absent'], 1]);
      resolve();
      await look();
      await look();
      expect([state(), labels(), captured.length]).toEqual([['pay captured'], ['pay'], 1]);
    });
  });

  describe('with a pattern', () => {
    const found = [1, 2, 3].map((number) => `${NAME}-${number}`);
    const pods = {
      label: 'pods',
      folder: '/run/netns',
      pattern: `${NAME}-?`,
      routedIn: [{ family: 'ip', address: '10.8.0.0', prefixBits: 24 }],
      most: 2,
    } as const;
    beforeEach(() => open({ patterns: [pods] }));
    afterEach(async () => {
      for (const name of found) await run(['ip', 'netns', 'del', name]);
    });
    const names = (): readonly string[] => captured.map(({ name }) => name);

    test('captures what matches as it comes, under the label that all have in common, and forgets it as it goes', async () => {
      await keeper.start();
      expect(state()).toEqual([]);
      await add(found[0]);
      await look();
      expect(state()).toEqual([`pods/${found[0]} captured`]);
      expect(namespaces.findLabel(captured[0]?.link ?? '')).toBe('pods');
      await remove(found[0]);
      await look();
      expect([state(), captured]).toEqual([[], []]);
    });

    test('writes the rules of one that knows where it is reached, and has told it before anybody listens', async () => {
      const later: (() => void)[] = [];
      const source = new HostNamespaces({ named: [], patterns: [pods] });
      namespaces = new Namespaces({
        source,
        routedIn: pods.routedIn,
        findRouted: (asked) => new Map(asked.map((each) => [ADDRESS, each])),
        soon: (work) => void later.push(work),
      });
      const known: unknown[] = [];
      keeper = new NamespaceKeeper({
        source,
        namespaces,
        capture: async (namespace) => {
          known.push(namespaces.addressesOf(namespace), namespaces.findAt(ADDRESS));
          return await capture(namespace);
        },
        clock,
        log: silentLog,
      });
      const told: unknown[] = [];
      namespaces.watch((change) => told.push(change));
      await add(found[0]);
      const starting = keeper.start();
      await waitUntil('the routes are read', () => {
        if (known.length > 0) return true;
        later.shift()?.();
        return false;
      });
      await starting;
      expect(known).toEqual([[ADDRESS], { kind: 'closed' }]);
      expect(told).toEqual([{ isLoss: false, gained: [ADDRESS] }]);
    });

    test('hears of one without looking', async () => {
      await keeper.start();
      await add(found[0]);
      // Only what it heard of has a look scheduled before the next one that is due anyway.
      await waitUntil('it has heard', async () => {
        clock.advance(20);
        await Bun.sleep(1);
        return names().length === 1;
      });
    });

    test('captures no more at once than it may, keeps those that it has, and tells of the others', async () => {
      for (const name of found.slice(1)) await add(name);
      await keeper.start();
      await add(found[0]);
      await look();
      expect(names()).toEqual([`pods/${found[1]}`, `pods/${found[2]}`]);
      expect(keeper.beyond).toEqual(new Map([['pods', 1]]));
      await remove(found[1]);
      await look();
      expect(names().toSorted()).toEqual([`pods/${found[0]}`, `pods/${found[2]}`]);
      expect(keeper.beyond).toEqual(new Map());
    });

    test('leaves a file alone that is no namespace, or not yet', async () => {
      const path = `/run/netns/${found[0]}`;
      await runOk(['touch', path]);
      await keeper.start();
      expect(state()).toEqual([]);
      await runOk(['rm', path]);
    });
  });
});
