import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { findTcpListeners } from '../native/sock-diag.ts';
import { HoldingProgram } from './fixtures/holding-program.ts';
import type { HolderFinder, Sighting } from './holder-finder.ts';

/** What every adapter of `HolderFinder` promises. */
export function describeHolderFinder(name: string, open: () => HolderFinder): void {
  describe(`HolderFinder (${name})`, () => {
    const programs: HoldingProgram[] = [];
    let finder: HolderFinder;
    beforeAll(() => {
      finder = open();
    });
    afterAll(() => finder.close());
    afterEach(async () => {
      for (const program of programs.splice(0)) await program.end();
    });

    const rig: FinderRig = {
      get finder() {
        return finder;
      },
      listen: async () => {
        const program = new HoldingProgram();
        programs.push(program);
        const { port, fd } = await program.open('listen', '127.0.0.1');
        return { program, fd, inode: findTcpListeners(port)[0]?.inode ?? 0 };
      },
    };
    holderContract(rig);
    changeContract(rig);

    test('close() refuses what comes', async () => {
      const closed = open();
      closed.close();
      const refusal = await refusalOf(closed.find(new Set([1])));
      expect(refusal).toMatchObject({ code: 'unavailable', reason: 'holder_scan_failed' });
    });
  });
}

interface FinderRig {
  readonly finder: HolderFinder;
  /** A program with a listening socket; it ends with the test. */
  listen(): Promise<{ readonly program: HoldingProgram; readonly fd: number; readonly inode: number }>;
}

/** Whose a socket is. */
function holderContract(rig: FinderRig): void {
  test('find() gives each caller the holders of its own sockets, however many ask at once', async () => {
    const listeners = await Promise.all(Array.from({ length: 5 }, async () => await rig.listen()));
    const asked = Array.from({ length: 200 }, (_, i) => listeners[i % listeners.length]);
    const answers = await Promise.all(
      asked.map((listener) => rig.finder.find(new Set([listener?.inode ?? 0]))),
    );
    for (const [i, answer] of answers.entries()) {
      const { inode = 0, program, fd = 0 } = asked[i] ?? {};
      expect(pidsOf(answer.get(inode))).toEqual([program?.pid ?? 0]);
      expect(holdersOf(answer.get(inode))[0]).toMatchObject({ inode, fd });
    }
    const both = new Set(listeners.slice(0, 2).map(({ inode }) => inode));
    const sightings = await rig.finder.find(both);
    expect([...both].map((inode) => pidsOf(sightings.get(inode)))).toEqual(
      listeners.slice(0, 2).map(({ program }) => [program.pid]),
    );
  });

  test('find() gives all holders of a socket, and for a socket of nobody none', async () => {
    const { program, inode } = await rig.listen();
    const child = Number(await program.tell('fork'));
    const sightings = await rig.finder.find(new Set([inode, 1]));
    expect(new Set(pidsOf(sightings.get(inode)))).toEqual(new Set([program.pid, child]));
    expect(sightings.get(1)).toEqual({ kind: 'seen', holders: [] });
  });

  test('find() leaves out the process that asks', async () => {
    const server = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data() {} } });
    const inode = findTcpListeners(server.port)[0]?.inode ?? 0;
    expect((await rig.finder.find(new Set([inode]))).get(inode)).toEqual({ kind: 'seen', holders: [] });
    server.stop(true);
  });
}

/** What is said of holders that were known before. */
function changeContract(rig: FinderRig): void {
  test('find() stamps a process anew when it becomes another one, and only then', async () => {
    const { program, inode } = await rig.listen();
    const look = async (known?: ReadonlyMap<number, Sighting>): Promise<ReadonlyMap<number, Sighting>> =>
      await rig.finder.find(new Set([inode]), known);
    const first = await look();
    const second = await look(first);
    expect(stampsOf(second.get(inode))).toEqual(stampsOf(first.get(inode)));
    await program.tell('user', '4242');
    const third = await look(second);
    expect(pidsOf(third.get(inode))).toEqual([program.pid]);
    expect(stampsOf(third.get(inode))).not.toEqual(stampsOf(first.get(inode)));
  });

  test('find() does not give a holder that was known and holds the socket no more', async () => {
    const { program, inode } = await rig.listen();
    const known = await rig.finder.find(new Set([inode]));
    expect(pidsOf(known.get(inode))).toEqual([program.pid]);
    await program.tell('close');
    expect(pidsOf((await rig.finder.find(new Set([inode]), known)).get(inode))).toEqual([]);
  });
}

function holdersOf(sighting: Sighting | undefined): Extract<Sighting, { kind: 'seen' }>['holders'] {
  return sighting?.kind === 'seen' ? sighting.holders : [];
}

function pidsOf(sighting: Sighting | undefined): readonly number[] {
  return holdersOf(sighting).map(({ pid }) => pid);
}

function stampsOf(sighting: Sighting | undefined): readonly string[] {
  return holdersOf(sighting).map(({ stamp }) => stamp);
}
