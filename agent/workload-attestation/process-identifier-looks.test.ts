import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { requireRoot } from '../../tests/kit/netns.ts';
import { asUser } from '../../tests/kit/programs.ts';
import { HoldingProgram } from './fixtures/holding-program.ts';
import { openTestFinder } from './fixtures/open-test-finder.ts';
import { RegisteredPaths } from './fixtures/registered-paths.ts';
import { HOLDER_SEARCHES, type HolderFinder } from './holder-finder.ts';
import { createProcessIdentifier } from './process-identifier.ts';
import type { ProcessIdentifier, ProcessIdentity } from './process-identity.ts';

/** How often an identifier looks, and how often it reads what it saw. */

const ALICE = 4242;
const BOB = 4243;
const LOOPBACK = '127.0.0.1';
const log = createLog({ level: 'error', nowMs: () => 0, write: () => undefined });

describe.each(HOLDER_SEARCHES)('an identifier that looks by %s', (search) => {
  const registered = new RegisteredPaths();
  const count = { looks: 0, readings: 0 };
  let finder: HolderFinder;
  let clock: FakeClock;
  let lookMs = 0;
  let processes: ProcessIdentifier;
  let server: Bun.TCPSocketListener;
  let program: HoldingProgram;
  let ports: readonly number[] = [];

  beforeAll(() => {
    requireRoot('processes of other users');
    finder = openTestFinder(search);
    server = Bun.listen({ hostname: LOOPBACK, port: 0, socket: { data() {} } });
  });
  afterAll(() => {
    finder.close();
    server.stop(true);
  });
  beforeEach(async () => {
    registered.register({ '/alice': [`unix:uid:${ALICE}`], '/bob': [`unix:uid:${BOB}`] });
    clock = new FakeClock();
    processes = identifier();
    program = new HoldingProgram(asUser(ALICE));
    const first = await program.open('connect', LOOPBACK, server.port);
    const second = await program.open('connect', LOOPBACK, server.port);
    ports = [first.port, second.port];
    Object.assign(count, { looks: 0, readings: 0 });
    lookMs = 0;
  });
  afterEach(async () => await program.end());

  function identifier(): ProcessIdentifier {
    const attestor = registered.unixAttestor(log);
    return createProcessIdentifier({
      entries: registered.entries,
      attestors: [
        {
          type: attestor.type,
          attest: async (process) => {
            count.readings++;
            return await attestor.attest(process);
          },
        },
      ],
      finder: {
        search: finder.search,
        isImmediate: finder.isImmediate,
        find: (...asked) => {
          count.looks++;
          const finding = finder.find(...asked);
          clock.advance(lookMs);
          return finding;
        },
        close: () => undefined,
      },
      clock,
      log,
    });
  }

  async function caller(index = 1): Promise<ProcessIdentity> {
    const client = { address: LOOPBACK, port: ports[index] ?? 0 };
    return await processes.identifyCaller(client, { address: LOOPBACK, port: server.port });
  }

  const alice = (): object => ({ kind: 'identified', spiffeId: registered.idOf('/alice'), pid: program.pid });

  test('looks once at all that is asked within a turn, and once more for what it had to read', async () => {
    const asked = await Promise.all(Array.from({ length: 40 }, async () => await caller()));
    for (const identity of asked) expect(identity).toMatchObject(alice());
    expect(count).toEqual({ looks: 2, readings: 1 });
    await Promise.all(Array.from({ length: 40 }, async () => await caller()));
    expect(count).toEqual({ looks: 3, readings: 1 });
  });

  test('knows a process for a second, by each of its connections', async () => {
    expect(await caller()).toMatchObject(alice());
    clock.advance(1_000);
    expect(await caller()).toMatchObject(alice());
    expect(count).toEqual({ looks: 3, readings: 1 });
    clock.advance(1);
    expect(await caller()).toMatchObject(alice());
    expect(count).toEqual({ looks: 5, readings: 2 });
  });

  test('does not know a process within that second once it is another one', async () => {
    await program.end();
    program = new HoldingProgram();
    ports = [0, (await program.open('connect', LOOPBACK, server.port)).port];
    registered.register({ '/root': ['unix:uid:0'], '/alice': [`unix:uid:${ALICE}`] });
    expect(await caller()).toMatchObject({ kind: 'identified', spiffeId: registered.idOf('/root') });
    await program.tell('user', String(ALICE));
    expect(await caller()).toMatchObject(alice());
    expect(count.readings).toBe(2);
  });

  test('reads anew what is asked for by a registration that changed', async () => {
    expect(await caller()).toMatchObject(alice());
    registered.register({ '/other': [`unix:gid:${ALICE}`] });
    expect(await caller()).toMatchObject({ spiffeId: registered.idOf('/other') });
    expect(count.readings).toBe(2);
  });

  test('rests three times as long as a look took on this thread, and looks then at all that was asked meanwhile', async () => {
    await caller();
    lookMs = 10;
    await caller();
    const before = count.looks;
    const answers: ProcessIdentity[] = [];
    const asked = [caller(), caller()].map(async (asking) => answers.push(await asking));
    await new Promise((resolve) => setImmediate(resolve));
    expect([answers.length, count.looks]).toEqual([0, before]);
    clock.advance(29);
    expect(count.looks).toBe(before);
    clock.advance(1);
    await Promise.all(asked);
    expect([answers.length, count.looks]).toEqual([2, before + 1]);
  });
});
