import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { openDescriptorWay, sendDescriptors } from '../native/descriptor-passing.ts';
import { closeDescriptor } from '../native/dial.ts';
import { FIRST_SOCKET_FD, fromSuccessor, type FromIncumbent, type FromSuccessor } from './messages.ts';

/** The process that takes over from this one, as this one sees it. Nobody else can be it: it is a child of ours, and speaks on a channel that it inherited. */
export interface Successor {
  readonly pid: number;
  /** The next thing that it says. Throws `unavailable`, reason `successor_failed`, when it says something else, that it failed, or nothing before `deadlineMs` of the monotonic clock, and when it ends. */
  expect<T extends FromSuccessor['type']>(
    type: T,
    deadlineMs: number,
  ): Promise<Extract<FromSuccessor, { type: T }>>;
  tell(message: FromIncumbent): void;
  /** The descriptor by which it gets others than it was started with, as it knows it. */
  readonly way: number;
  /** Gives it a descriptor of its own for a file of ours, behind those given before. False where so many wait already that it does not get it. */
  give(fd: number): boolean;
  /** Kills it, and resolves once it has ended. */
  kill(): Promise<void>;
  /** Ends the conversation; the process goes on. */
  letGo(): void;
}

/** Starts the process. */
export type StartSuccessor = (options: {
  /** Its descriptors from `FIRST_SOCKET_FD` on. */
  readonly fds: readonly number[];
}) => Successor;

/** Bounds what a child that has gone wrong can make us keep. */
const MAX_UNREAD = 16;

/** Starts `command` with our environment, standard output and error, and a channel. */
export function startSuccessorProcess(
  { fds }: { readonly fds: readonly number[] },
  { command, clock }: { readonly command: readonly string[]; readonly clock: Clock },
): Successor {
  const words: (FromSuccessor | 'nonsense')[] = [];
  let wake = (): void => undefined;
  const way = openDescriptorWay();
  const child = Bun.spawn([...command], {
    stdio: ['ignore', 'inherit', 'inherit', ...fds, way.far],
    // Another version of Picket may be on another version of Bun, whose own format may differ.
    serialization: 'json',
    ipc: (message: unknown) => {
      const parsed = fromSuccessor.safeParse(message);
      if (words.length < MAX_UNREAD) words.push(parsed.success ? parsed.data : 'nonsense');
      wake();
    },
    onExit: () => wake(),
  });
  closeDescriptor(way.far);
  const closeWay = once(() => closeDescriptor(way.near));
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const next = async (deadlineMs: number): Promise<FromSuccessor | 'nonsense' | undefined> => {
    while (words.length === 0 && !hasEnded() && clock.monotonicMs() < deadlineMs) {
      const { promise, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      const cancel = clock.schedule(Math.max(0, deadlineMs - clock.monotonicMs()), resolve);
      await promise;
      cancel();
    }
    return words.shift();
  };
  return {
    pid: child.pid,
    expect: async <T extends FromSuccessor['type']>(type: T, deadlineMs: number) => {
      const word = await next(deadlineMs);
      if (isOf(word, type)) return word;
      throw failed(whyNot(word, { type, hasEnded: hasEnded(), exitCode: child.exitCode }));
    },
    tell: (message) => {
      if (!hasEnded()) child.send(message);
    },
    way: FIRST_SOCKET_FD + fds.length,
    give: (fd) => sendDescriptors(way.near, [fd]),
    kill: async () => {
      closeWay();
      child.kill('SIGKILL');
      await child.exited;
    },
    letGo: () => {
      closeWay();
      child.disconnect();
      child.unref();
    },
  };
}

function once(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) work();
    isDone = true;
  };
}

/** `FIRST_SOCKET_FD` and on, in their order. */
export function nameInheritedSockets(
  sockets: readonly { readonly name: string }[],
): readonly { readonly name: string; readonly fd: number }[] {
  return sockets.map(({ name }, i) => ({ name, fd: FIRST_SOCKET_FD + i }));
}

function isOf<T extends FromSuccessor['type']>(
  word: FromSuccessor | 'nonsense' | undefined,
  type: T,
): word is Extract<FromSuccessor, { type: T }> {
  return typeof word === 'object' && word.type === type;
}

function whyNot(
  word: FromSuccessor | 'nonsense' | undefined,
  {
    type,
    hasEnded,
    exitCode,
  }: { readonly type: string; readonly hasEnded: boolean; readonly exitCode: number | null },
): string {
  if (typeof word === 'object')
    return word.type === 'failed' ? word.message : `it said ${word.type} where ${type} comes`;
  if (word === 'nonsense') return 'it said what this version does not know';
  if (hasEnded) return `it ended${exitCode === null ? '' : ` with ${exitCode}`}: the log says why`;
  return `it took too long to say ${type}`;
}

function failed(why: string): PicketError {
  return new PicketError('unavailable', 'successor_failed', `The new agent did not take over: ${why}`);
}
