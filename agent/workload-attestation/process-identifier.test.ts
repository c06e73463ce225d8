import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { systemClock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { requireRoot } from '../../tests/kit/netns.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { asUser } from '../../tests/kit/programs.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { isAsleepIn } from './fixtures/asleep-in.ts';
import { HoldingProgram, type HeldSocket } from './fixtures/holding-program.ts';
import { openTestFinder } from './fixtures/open-test-finder.ts';
import { RegisteredPaths } from './fixtures/registered-paths.ts';
import { HOLDER_SEARCHES, type HolderFinder } from './holder-finder.ts';
import { readProcessFacts } from './process-facts.ts';
import { createProcessIdentifier } from './process-identifier.ts';
import type { ProcessIdentifier, ProcessIdentity } from './process-identity.ts';
import type { UnixAttestor } from './unix.ts';
import type { WorkloadAttestor } from './workload-attestor.ts';

const ALICE = 4242;
const BOB = 4243;
const LOOPBACK = '127.0.0.1';

const log = createLog({ level: 'error', nowMs: () => 0, write: (line) => logged.push(line) });
const logged: string[] = [];
const registered = new RegisteredPaths();
const { entries } = registered;
const idOf = registered.idOf.bind(registered);
const register = registered.register.bind(registered);
const programs: HoldingProgram[] = [];
let finder: HolderFinder;
let processes: ProcessIdentifier;
let server: Server;
let serverPort = 0;

beforeAll(async () => {
  requireRoot('processes of other users');
  server = createServer((socket) => socket.on('error', () => undefined));
  server.listen(0, LOOPBACK);
  await once(server, 'listening');
  serverPort = (server.address() as { readonly port: number }).port;
});
afterAll(() => void server.close());
beforeEach(() => {
  register({ '/alice': [`unix:uid:${ALICE}`], '/bob': [`unix:uid:${BOB}`] });
});
afterEach(async () => {
  for (const program of programs.splice(0)) await program.end();
});

describe.each(HOLDER_SEARCHES)('holders found by %s', (search) => {
  beforeAll(() => {
    finder = openTestFinder(search);
    processes = identifierWith(unixAttestor());
  });
  afterAll(() => finder.close());

  describe('identifyCaller()', () => {
    test('gives a connection the identity of the process that holds it', async () => {
      const { program, socket } = await connected(asUser(ALICE));
      expect(await callerAt(socket)).toEqual({
        kind: 'identified',
        spiffeId: idOf('/alice'),
        pid: program.pid,
        uid: ALICE,
      });
    });

    test('finds callers over IPv6, and over IPv4 by an IPv6 socket', async () => {
      const v6 = createServer().listen(0, '::');
      await once(v6, 'listening');
      const { port } = v6.address() as { readonly port: number };
      try {
        for (const [dial, address] of [
          ['::1', '::1'],
          [`::ffff:${LOOPBACK}`, LOOPBACK],
        ] as const) {
          const program = start(asUser(ALICE));
          const socket = await program.open('connect', dial, port);
          const identity = await processes.identifyCaller({ address, port: socket.port }, { address, port });
          expect(identity).toMatchObject({ kind: 'identified', pid: program.pid });
        }
      } finally {
        v6.close();
      }
    });

    test('a connection of nobody, and one whose process has ended, has no identity', async () => {
      const { program, socket } = await connected(asUser(ALICE));
      await program.end();
      expect(await callerAt(socket)).toEqual({
        kind: 'unidentified',
        why: 'no_holder',
        pid: null,
        uid: null,
        mayBe: [idOf('/alice'), idOf('/bob')],
      });
      expect(await callerAt({ port: 1, fd: 0 })).toMatchObject({ why: 'no_holder' });
    });

    test('a process that earns nothing has no identity', async () => {
      register({ '/bob': [`unix:uid:${BOB}`] });
      const { program, socket } = await connected(asUser(ALICE));
      expect(await callerAt(socket)).toEqual({
        kind: 'unidentified',
        why: 'no_entry',
        pid: program.pid,
        uid: ALICE,
        mayBe: [],
      });
    });

    test('forked processes of one identity share it', async () => {
      const { program, socket } = await connected(asUser(ALICE));
      const child = Number(await program.tell('fork'));
      const identity = await callerAt(socket);
      expect(identity).toMatchObject({ kind: 'identified', spiffeId: idOf('/alice') });
      expect([program.pid, child]).toContain(identity.pid ?? 0);
    });

    test('holders of different identities have none, be it that one of them earns nothing', async () => {
      const { program, socket } = await connected();
      await program.tell('fork', String(ALICE));
      expect(await callerAt(socket)).toMatchObject({ why: 'holders_differ', mayBe: [idOf('/alice')] });
      await program.tell('fork', String(BOB));
      const both = await callerAt(socket);
      expect(both).toMatchObject({ kind: 'unidentified', why: 'holders_differ' });
      expect(mayBe(both)).toEqual([idOf('/alice'), idOf('/bob')]);
    });

    test('a socket that root made and gave away belongs to whom it was given', async () => {
      const { program, socket } = await connected();
      const child = Number(await program.tell('fork', String(ALICE)));
      await program.tell('close');
      expect(await callerAt(socket)).toEqual({
        kind: 'identified',
        spiffeId: idOf('/alice'),
        pid: child,
        uid: ALICE,
      });
    });

    test('a socket that one user made and another one holds alone lends nobody an identity', async () => {
      const { program, socket } = await connected(asUser(ALICE));
      const taker = start();
      await taker.tell('take', String(program.pid), String(socket.fd));
      await taker.tell('user', String(BOB));
      expect(await callerAt(socket)).toMatchObject({ kind: 'unidentified', why: 'holders_differ' });
      await program.tell('close');
      expect(await callerAt(socket)).toEqual({
        kind: 'unidentified',
        why: 'holders_differ',
        pid: taker.pid,
        uid: BOB,
        mayBe: [idOf('/alice'), idOf('/bob')],
      });
    });

    test('a process is what it is now, not what it was when it connected', async () => {
      register({ '/alice': [`unix:uid:${ALICE}`], '/cat': ['unix:uid:0', 'unix:path:/usr/bin/cat'] });
      const { program, socket } = await connected();
      expect(await callerAt(socket)).toMatchObject({ why: 'no_entry' });
      await program.tell('exec', '/usr/bin/cat');
      await waitUntil('it is cat', () => isAsleepIn(program.pid, '/usr/bin/cat'));
      const identity = await callerAt(socket);
      expect(identity).toMatchObject({ kind: 'identified', spiffeId: idOf('/cat') });
    });

    test('a socket that is closed while the selectors are read has no identity', async () => {
      const { program, socket } = await connected(asUser(ALICE));
      const looks = { count: 0 };
      const closing = identifierWith(
        afterwards(async () => {
          looks.count++;
          await program.tell('close');
        }),
      );
      expect(await callerAt(socket, closing)).toMatchObject({ kind: 'unidentified', why: 'no_holder' });
      expect(looks.count).toBe(1);
    });

    test('notices a change of user while the selectors are read', async () => {
      const { program, socket } = await connected();
      register({ '/root': ['unix:uid:0'] });
      const looks = { count: 0 };
      const changing = identifierWith(
        afterwards(async () => {
          if (looks.count++ === 0) await program.tell('user', String(ALICE));
        }),
      );
      expect(await callerAt(socket, changing)).toMatchObject({ kind: 'unidentified', why: 'no_entry' });
      expect(looks.count).toBe(2);
    });

    test('says changed of a process that is another one at each look', async () => {
      const { program, socket } = await connected();
      const child = Number(await program.tell('fork', String(ALICE)));
      await program.tell('close');
      const selectors = unixAttestor();
      const earlier = identifierWith({
        type: 'unix',
        attest: ({ pid, startTime }) => selectors.attest({ pid, startTime: startTime - 1n }),
      });
      expect(await callerAt(socket, earlier)).toEqual({
        kind: 'unidentified',
        why: 'changed',
        pid: child,
        uid: ALICE,
        mayBe: [idOf('/alice'), idOf('/bob')],
      });
    });

    test('of several entries the one that says most decides, and unrelated ones decide nothing', async () => {
      const { program, socket } = await connected(asUser(ALICE));
      const path = readProcessFacts(program.pid)?.executablePath ?? '';
      register({ '/alice': [`unix:uid:${ALICE}`], '/perl': [`unix:uid:${ALICE}`, `unix:path:${path}`] });
      expect(await callerAt(socket)).toMatchObject({ kind: 'identified', spiffeId: idOf('/perl') });
      register({ '/alice': [`unix:uid:${ALICE}`], '/perl': [`unix:path:${path}`] });
      expect(await callerAt(socket)).toEqual({
        kind: 'unidentified',
        why: 'ambiguous_entry',
        pid: program.pid,
        uid: ALICE,
        mayBe: [idOf('/alice'), idOf('/perl')],
      });
    });

    test('a path is not earned in another mount namespace, where a program of the same path runs', async () => {
      const path = readProcessFacts((await connected()).program.pid)?.executablePath ?? '';
      register({ '/perl': [`unix:path:${path}`] });
      const here = await connected();
      expect(await callerAt(here.socket)).toMatchObject({ kind: 'identified', spiffeId: idOf('/perl') });
      const elsewhere = await connected(['unshare', '-m']);
      expect(await callerAt(elsewhere.socket)).toMatchObject({ kind: 'unidentified', why: 'no_entry' });
    });

    test('never rejects: what cannot be found out is a limit, and logged', async () => {
      const { socket } = await connected(asUser(ALICE));
      const stopped = openTestFinder(search);
      stopped.close();
      const blind = createProcessIdentifier({
        entries,
        attestors: [unixAttestor()],
        finder: stopped,
        clock: systemClock,
        log,
      });
      expect(await callerAt(socket, blind)).toEqual({
        kind: 'unidentified',
        why: 'limit',
        pid: null,
        uid: null,
        mayBe: [idOf('/alice'), idOf('/bob')],
      });
      expect(logged.join()).toContain('holder_scan_failed');
    });
  });

  describe('identifyListener()', () => {
    test('ignores the master that is root where workers hold the socket too', async () => {
      const { program, socket } = await listening();
      const worker = Number(await program.tell('fork', String(ALICE)));
      expect(await listenerAt(socket, '/alice')).toEqual({
        kind: 'identified',
        spiffeId: idOf('/alice'),
        pid: worker,
        uid: ALICE,
      });
      await program.tell('fork', String(BOB));
      expect(await listenerAt(socket, '/alice')).toMatchObject({ why: 'holders_differ' });
    });

    test('counts root where nobody else holds the socket', async () => {
      const { program, socket } = await listening();
      expect(await listenerAt(socket, '/alice')).toEqual({
        kind: 'unidentified',
        why: 'no_entry',
        pid: program.pid,
        uid: 0,
      });
      register({ '/root': ['unix:uid:0'] });
      expect(await listenerAt(socket, '/root')).toMatchObject({ kind: 'identified', pid: program.pid });
    });

    test('asks all that share the port', async () => {
      const { program, socket } = await listening();
      await program.tell('user', String(ALICE));
      expect(await listenerAt(socket, '/alice')).toMatchObject({ kind: 'identified' });
      const second = start();
      await second.open('listen', LOOPBACK, socket.port);
      await second.tell('user', String(BOB));
      expect(await listenerAt(socket, '/alice')).toMatchObject({ why: 'holders_differ' });
      await second.end();
      expect(await listenerAt(socket, '/alice')).toMatchObject({ kind: 'identified' });
    });

    test('is earned by any entry of the listener, and by none where nobody listens', async () => {
      const { program, socket } = await listening(asUser(ALICE));
      register({ '/alice': [`unix:uid:${ALICE}`], '/other': [`unix:gid:${ALICE}`] });
      expect(await listenerAt(socket, '/other')).toMatchObject({ kind: 'identified', pid: program.pid });
      expect(await listenerAt(socket, '/bob')).toMatchObject({ kind: 'unidentified', why: 'no_entry' });
      await program.end();
      expect(await listenerAt(socket, '/other')).toMatchObject({ kind: 'unidentified', why: 'no_holder' });
    });

    test('the agent itself is no workload', async () => {
      register({ '/root': ['unix:uid:0'] });
      const identity = await processes.identifyListener(
        { address: LOOPBACK, port: serverPort },
        idOf('/root'),
      );
      expect(identity).toMatchObject({ kind: 'unidentified', why: 'no_holder' });
    });
  });

  describe('identitiesOf()', () => {
    test('gives every entry that a process earns, the most specific one first', async () => {
      const program = start(asUser(ALICE));
      await program.open('connect', LOOPBACK, serverPort);
      const made = register({
        '/group': [`unix:gid:${ALICE}`],
        '/alice': [`unix:uid:${ALICE}`, `unix:gid:${ALICE}`],
        '/bob': [`unix:uid:${BOB}`],
      });
      const { entryIds, isSame } = await processes.identitiesOf(program.pid);
      expect(entryIds).toEqual(['/alice', '/group'].map((path) => made.get(path)?.entryId ?? ''));
      expect(isSame()).toBe(true);
      await program.tell('exec', '/usr/bin/cat');
      await waitUntil('it is cat', () => isAsleepIn(program.pid, '/usr/bin/cat'));
      expect(isSame()).toBe(false);
      register({});
      expect((await processes.identitiesOf(program.pid)).entryIds).toEqual([]);
    });

    test('refuses a process that has ended', async () => {
      const program = start();
      await program.open('connect', LOOPBACK, serverPort);
      const { isSame } = await processes.identitiesOf(program.pid);
      await program.end();
      expect(isSame()).toBe(false);
      expect(await refusalOf(processes.identitiesOf(program.pid))).toMatchObject({
        code: 'not_found',
        reason: 'process_gone',
      });
    });
  });
});

function unixAttestor(): UnixAttestor {
  return registered.unixAttestor(log);
}

function identifierWith(attestor: WorkloadAttestor): ProcessIdentifier {
  return createProcessIdentifier({ entries, attestors: [attestor], finder, clock: systemClock, log });
}

/** The unix attestor, with something that happens each time when it has just answered. */
function afterwards(happens: () => Promise<void>): WorkloadAttestor {
  const attestor = unixAttestor();
  return {
    type: attestor.type,
    attest: async (process) => {
      const selectors = await attestor.attest(process);
      await happens();
      return selectors;
    },
  };
}

function start(before: readonly string[] = []): HoldingProgram {
  const program = new HoldingProgram(before);
  programs.push(program);
  return program;
}

async function connected(
  before: readonly string[] = [],
): Promise<{ readonly program: HoldingProgram; readonly socket: HeldSocket }> {
  const program = start(before);
  return { program, socket: await program.open('connect', LOOPBACK, serverPort) };
}

async function listening(
  before: readonly string[] = [],
): Promise<{ readonly program: HoldingProgram; readonly socket: HeldSocket }> {
  const program = start(before);
  return { program, socket: await program.open('listen', LOOPBACK) };
}

function callerAt({ port }: HeldSocket, by = processes): ReturnType<ProcessIdentifier['identifyCaller']> {
  return by.identifyCaller({ address: LOOPBACK, port }, { address: LOOPBACK, port: serverPort });
}

function listenerAt({ port }: HeldSocket, path: string): ReturnType<ProcessIdentifier['identifyListener']> {
  return processes.identifyListener({ address: LOOPBACK, port }, idOf(path));
}

function mayBe(identity: ProcessIdentity): readonly string[] | undefined {
  return identity.kind === 'identified' ? undefined : identity.mayBe?.toSorted();
}
