import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock, type Clock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { startSuccessorProcess, type Successor } from './successor.ts';
import { Upgrade, type Incumbent } from './upgrade.ts';

let folder: string;
const started: Successor[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'picket-upgrade-'));
});

afterEach(async () => {
  for (const successor of started.splice(0)) await successor.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** A hundred times as fast. */
const hasty: Clock = {
  ...systemClock,
  monotonicMs: () => systemClock.monotonicMs() * 100,
  schedule: (ms, callback) => systemClock.schedule(ms / 100, callback),
};

/** An agent that only notes what is asked of it. */
class NotingIncumbent implements Incumbent {
  readonly calls: string[] = [];
  mainPid: number | undefined;
  connections = 3;
  news = false;
  heard = { epoch: 'e', cursor: 5 };
  failsAside = false;
  givenOver: Promise<void> = Promise.resolve();
  hearsAtTheEnd = false;
  readonly drained = Promise.withResolvers<void>();
  /** Of sockets that it opens at once when it may for the last time; none unless set. */
  late: readonly string[] = [];
  #sockets = [{ name: 'tcp :: 15008', fd: openSync(join(folder, 'socket'), 'w') }];

  listSockets() {
    return this.#sockets;
  }

  stepAside(): Promise<void> {
    this.calls.push('aside');
    return this.failsAside ? Promise.reject(new Error('the disk is full')) : Promise.resolve();
  }

  hasNews(): Promise<boolean> {
    return Promise.resolve(this.news);
  }

  letGo(): Promise<void> {
    this.calls.push('let go');
    for (const name of this.late) {
      const file = join(folder, name);
      writeFileSync(file, `it is ${name}`);
      this.#sockets = [...this.#sockets, { name, fd: openSync(file, 'r') }];
    }
    if (this.hearsAtTheEnd) this.hears();
    return Promise.resolve();
  }

  hears(): void {
    this.news = true;
    this.heard = { epoch: 'e', cursor: 6 };
  }

  stepBack(): Promise<void> {
    this.calls.push('back');
    return Promise.resolve();
  }

  retire(): void {
    this.calls.push('retire');
  }

  async giveOver(successorPid: number): Promise<void> {
    await this.givenOver;
    this.mainPid = successorPid;
  }

  async drain(): Promise<void> {
    await this.drained.promise;
  }

  end(): void {
    this.calls.push('end');
  }
}

function upgradeTo(script: string, { clock = systemClock }: { readonly clock?: Clock } = {}) {
  const incumbent = new NotingIncumbent();
  const output = join(folder, `${script}.log`);
  const fixture = join(import.meta.dirname, 'fixtures/scripted-successor.ts');
  const command = ['sh', '-c', 'exec "$@" >> "$0"', output, process.execPath, fixture, script];
  const upgrade = new Upgrade({
    incumbent,
    start: (sockets) => {
      const successor = startSuccessorProcess(sockets, { command, clock });
      started.push(successor);
      return successor;
    },
    version: '1.0.0',
    drainMs: 5000,
    clock,
    log: createLog({ level: 'error', nowMs: Date.now, write: () => undefined }),
  });
  return { incumbent, upgrade, output: () => readFileSync(output, 'utf8') };
}

describe('Upgrade', () => {
  test('hands over step by step, tells how it drains, and ends', async () => {
    const { incumbent, upgrade, output } = upgradeTo('good');
    const upgraded = await upgrade.run();
    expect(upgraded).toMatchObject({ version: '2.0.0', connections: 3, drainMs: 5000 });
    expect(upgrade.isReplaced).toBe(true);
    expect(incumbent.calls).toEqual(['aside', 'let go', 'retire']);
    expect(incumbent.mainPid).toBe(upgraded.pid);
    await waitUntil('it is told', () => output().includes('draining 1.0.0 3'));
    expect(output()).toContain('sockets [["tcp :: 15008",3]]');
    expect(await refusalOf(upgrade.run())).toMatchObject({ reason: 'upgrade_under_way' });
    incumbent.drained.resolve();
    await waitUntil('it is alone', () => output().includes('alone'));
    expect(incumbent.calls).toEqual(['aside', 'let go', 'retire', 'end']);
  });

  test.each([
    ['refuses', 'the settings are wrong', []],
    ['dies', 'it ended with 7', []],
    ['other-protocol', 'version 99', []],
    ['nonsense', 'does not know', []],
    ['hasty', 'it said serving where hello comes', []],
    ['flood', 'it said prepared where hello comes', []],
    ['dies-late', 'it ended with 3', ['aside', 'let go', 'back']],
  ])('goes on where the successor %s, and can be replaced later', async (script, why, calls) => {
    const { incumbent, upgrade } = upgradeTo(script);
    const refusal = await refusalOf(upgrade.run());
    expect(refusal).toMatchObject({ code: 'unavailable', reason: 'successor_failed' });
    expect(refusal.message).toContain(why);
    expect(incumbent.calls).toEqual(calls);
    expect(upgrade.isReplaced).toBe(false);
    expect(await refusalOf(upgrade.run())).toMatchObject({ reason: 'successor_failed' });
  });

  test('waits so long and no longer, and kills what does not take over', async () => {
    const { incumbent, upgrade } = upgradeTo('hangs', { clock: hasty });
    const refusal = await refusalOf(upgrade.run());
    expect(refusal.message).toContain('it took too long to say hello');
    expect(incumbent.calls).toEqual([]);
    expect(() => process.kill(started[0]?.pid ?? 0, 0)).toThrow();
  });

  test.each(['deaf', 'cut-off', 'older-deaf'])(
    'gives way to no process that cannot know what the server has told meanwhile: %s',
    async (script) => {
      const { incumbent, upgrade } = upgradeTo(script);
      incumbent.hears();
      const refusal = await refusalOf(upgrade.run());
      expect(refusal.message).toContain('has not heard what the server has told us');
      expect(incumbent.calls).toEqual(['aside', 'back']);
      incumbent.news = false;
      expect(await upgrade.run()).toMatchObject({ version: '2.0.0' });
      incumbent.drained.resolve();
    },
  );

  test.each(['deaf', 'cut-off', 'older-deaf'])(
    'takes back what it gave to a process that does not know what the server told until it served: %s',
    async (script) => {
      const { incumbent, upgrade } = upgradeTo(script);
      incumbent.hearsAtTheEnd = true;
      const refusal = await refusalOf(upgrade.run());
      expect(refusal.message).toContain('has not heard what the server has told us');
      expect(incumbent.calls).toEqual(['aside', 'let go', 'back']);
      expect(incumbent.mainPid).toBeUndefined();
      expect(() => process.kill(started[0]?.pid ?? 0, 0)).toThrow();
    },
  );

  test.each(['good', 'older'])('gives way to one that hears it a moment later: %s', async (script) => {
    const { incumbent, upgrade } = upgradeTo(script);
    incumbent.hearsAtTheEnd = true;
    expect(await upgrade.run()).toMatchObject({ version: '2.0.0' });
    incumbent.drained.resolve();
  });

  test('does not compare what two servers told', async () => {
    const { incumbent, upgrade } = upgradeTo('good');
    incumbent.hears();
    incumbent.heard = { epoch: 'restored', cursor: 1 };
    expect((await refusalOf(upgrade.run())).message).toContain('has not heard');
    expect(incumbent.calls).toEqual(['aside', 'back']);
  });

  test('gives what it opened since the successor was started', async () => {
    const { incumbent, upgrade, output } = upgradeTo('good');
    incumbent.late = ['one', 'two'];
    await upgrade.run();
    expect(output()).toContain('late [["one","it is one"],["two","it is two"]]');
    incumbent.drained.resolve();
  });

  test('gives nothing to a successor of a version that would not take it, and so keep it', async () => {
    const { incumbent, upgrade, output } = upgradeTo('older');
    incumbent.late = ['one'];
    await upgrade.run();
    expect(output()).toContain('late []');
    incumbent.drained.resolve();
  });

  test('says that it takes nothing more before it ends anything else', async () => {
    const { incumbent, upgrade, output } = upgradeTo('good');
    const given = Promise.withResolvers<void>();
    incumbent.givenOver = given.promise;
    const upgraded = upgrade.run();
    await waitUntil('it is told', () => output().includes('draining'));
    expect([incumbent.calls.at(-1), incumbent.mainPid]).toEqual(['retire', undefined]);
    given.resolve();
    const { pid } = await upgraded;
    expect(incumbent.mainPid).toBe(pid);
    incumbent.drained.resolve();
  });

  test('steps back where it could not step aside', async () => {
    const { incumbent, upgrade } = upgradeTo('good');
    incumbent.failsAside = true;
    expect(await refusalOf(upgrade.run())).toMatchObject({ code: 'internal' });
    expect(incumbent.calls).toEqual(['aside', 'back']);
  });

  test('runs one at a time', async () => {
    const { incumbent, upgrade } = upgradeTo('good');
    const first = upgrade.run();
    expect(await refusalOf(upgrade.run())).toMatchObject({ reason: 'upgrade_under_way' });
    await first;
    incumbent.drained.resolve();
  });
});
